package etcdserver

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// newFile is there, and empty, until the first etcd on the folder serves.
	newFile = "libcluster.new"
	// MemberDir is where etcd keeps all its data.
	MemberDir = "member"
)

// Stage is how far an etcd has come on a data folder.
type Stage string

const (
	Empty   Stage = "empty"   // there is no data
	Forming Stage = "forming" // there is data, with which an etcd has never served
	Formed  Stage = "formed"  // an etcd has served
)

// StageOf returns the stage of a data folder, and marks one that is empty: whatever data comes
// next is forming.
func StageOf(dir string) (Stage, error) {
	marker := filepath.Join(dir, newFile)
	_, err := os.Stat(filepath.Join(dir, MemberDir))
	if errors.Is(err, fs.ErrNotExist) {
		return Empty, os.WriteFile(marker, nil, 0o600)
	}
	if err != nil {
		return "", err
	}
	switch info, err := os.Stat(marker); {
	case errors.Is(err, fs.ErrNotExist), err == nil && info.Size() > 0:
		return Formed, nil
	case err != nil:
		return "", err
	}
	return Forming, nil
}

// Serves is to be called before an etcd serves. From then on clients rely on
// what they are told is kept, so that the folder is not new any more even if
// the machine fails: removing a file may be forgotten then, but not what was
// written to it and synced.
func Serves(dir string) error {
	marker, err := os.OpenFile(filepath.Join(dir, newFile), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = marker.WriteString("served")
	if err := errors.Join(err, marker.Sync(), marker.Close()); err != nil {
		return err
	}
	return os.Remove(marker.Name())
}
