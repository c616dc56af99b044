package dirstore

import (
	"os"

	"golang.org/x/sys/unix"
)

// fileSystem returns what a folder is on, and whether all its users are of one kernel.
func fileSystem(folder string) (local bool, name string, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(folder, &stat); err != nil {
		return false, "", &os.PathError{Op: "statfs", Path: folder, Err: err}
	}
	name = unix.ByteSliceToString(stat.Fstypename[:])
	return name == "apfs" || name == "hfs", name, nil
}
