package embedded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// beginNew is to be called before an etcd opens its data. If the first one on
// this folder never came to serve, what it left is removed: an etcd that was
// cut off between making its files and writing the first entry to them goes on
// starting from them for ever after, without getting ready.
func beginNew(dir string) error {
	marker, member := filepath.Join(dir, newFile), filepath.Join(dir, memberDir)
	if info, err := os.Stat(marker); err == nil && info.Size() == 0 {
		if err := os.RemoveAll(member); err != nil {
			return err
		}
	}
	_, err := os.Stat(member)
	if errors.Is(err, fs.ErrNotExist) {
		return os.WriteFile(marker, nil, 0o600)
	}
	return err
}

// endNew is to be called before an etcd serves. From then on clients rely on
// what they are told is kept, so that the folder is not new any more even if
// the machine fails: removing a file may be forgotten then, but not what was
// written to it and synced.
func endNew(dir string) error {
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
