package etcdserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/storage/wal"
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
// next is forming. What a start has left that failed before etcd had its log is no data, and
// is removed. Nothing else may use the folder.
func StageOf(dir string) (Stage, error) {
	marker := filepath.Join(dir, newFile)
	served := false
	switch info, err := os.Stat(marker); {
	case errors.Is(err, fs.ErrNotExist), err == nil && info.Size() > 0:
		served = true
	case err != nil:
		return "", err
	}
	data := filepath.Join(dir, MemberDir)
	switch log := wal.Exist(filepath.Join(data, "wal")); {
	case log && served:
		return Formed, nil
	case log:
		return Forming, nil
	}
	database := filepath.Join(data, "snap", "db")
	if _, err := os.Stat(database); served && !errors.Is(err, fs.ErrNotExist) {
		return "", errors.Join(fmt.Errorf("%s has no log of the data in %s; bring it back, or empty the folder %s",
			filepath.Join(data, "wal"), database, dir), err)
	}
	return Empty, errors.Join(os.RemoveAll(data), os.WriteFile(marker, nil, 0o600))
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
