package dirstore

import (
	"errors"
	"time"
)

// files is what is done to the files of a store. Names are relative to its folder, with
// slashes. Each method is one system call that can be seen by others, or one file that is
// read or written; what it calls may hang.
type files interface {
	// read returns up to most bytes of a file. It follows no link and waits for no pipe: the
	// error of what is no file wraps errForeign.
	read(name string, most int) ([]byte, error)
	// write makes a file that was not there, and syncs it if asked to.
	write(name string, data []byte, sync bool) error
	// overwrite writes over the beginning of a file, which it makes if there is none. It
	// needs no space on the disk if the file was as long before, but where the file system
	// copies on write.
	overwrite(name string, data []byte) error
	// sync has a file outlast a power cut.
	sync(name string) error
	// link gives a file another name. The error wraps fs.ErrExist if that is taken.
	link(name, another string) error
	// modified returns when a file was written, by the clock of the file system.
	modified(name string) (time.Time, error)
	// remove removes a name. A folder that is not empty gets another name instead.
	remove(name string) error
	// list returns the names in a folder.
	list(folder string) ([]string, error)
	// mkdir makes a folder.
	mkdir(name string) error
	// rename renames a folder, unless there is one of that name that is not empty.
	rename(name, another string) error
	// check returns why the folder of the store will not do.
	check(network bool) error
	// mayChange returns an error if other users may change a folder.
	mayChange(folder string) error
}

// errForeign is that something is no regular file.
var errForeign = errors.New("it is no file")
