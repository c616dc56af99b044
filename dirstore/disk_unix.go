//go:build linux || darwin

package dirstore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What others than the owner and the group may do, nobody may do to these.
const (
	fileMode   = 0o660
	folderMode = 0o770
)

// disk is the folder of a store.
type disk string

func (d disk) path(name string) string { return filepath.Join(string(d), name) }

// open opens a file, and waits for nothing that is none.
func (d disk) open(name string, how int) (*os.File, error) {
	f, err := os.OpenFile(d.path(name), how|unix.O_NOFOLLOW|unix.O_NONBLOCK, fileMode)
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EISDIR):
		return nil, fmt.Errorf("%w: %w", errForeign, err)
	case err != nil:
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", d.path(name), errForeign)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// read makes four system calls. os.File would make four more, and this is what instances do at rest.
func (d disk) read(name string, most int) ([]byte, error) {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(d.path(name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("%w: %w", errForeign, err)
	case err != nil:
		return nil, d.failed("open", name, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, d.failed("stat", name, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errForeign
	}
	data := make([]byte, min(int64(most), stat.Size))
	for at := 0; at < len(data); {
		n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, data[at:]) })
		if err != nil {
			return nil, d.failed("read", name, err)
		}
		if n == 0 {
			return data[:at], nil
		}
		at += n
	}
	return data, nil
}

func (d disk) failed(what, name string, err error) error {
	return &fs.PathError{Op: what, Path: d.path(name), Err: err}
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func (d disk) write(name string, data []byte, sync bool) error {
	f, err := d.open(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = share(f, fileMode)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (d disk) overwrite(name string, data []byte) error {
	f, err := d.open(name, os.O_WRONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return d.write(name, data, false)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// share has the group do with what this process has just made what it may do with the folder that
// this is in, whatever the umask. Of another group than the folder's it knows nothing. What root
// makes, such as an operator who drains an instance, is given to the owner of the folder: the
// instances could not read it.
func share(f *os.File, most fs.FileMode) error {
	in, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := give(f, in); err != nil {
			return err
		}
	}
	is, err := f.Stat()
	if err != nil || groupOf(is) != groupOf(in) {
		return err
	}
	if mode := is.Mode() | in.Mode()&most; mode != is.Mode() {
		return f.Chmod(mode)
	}
	return nil
}

// give gives a file to the owner and the group of a folder. In a container root may not be able to;
// where the group has what the folder has, its users need not be given it.
func give(f *os.File, in fs.FileInfo) error {
	is, err := f.Stat()
	if err != nil || ownerIn(is) == ownerIn(in) {
		return err
	}
	if err := f.Chown(int(ownerIn(in)), int(groupOf(in))); err != nil && groupOf(is) != groupOf(in) {
		return err
	}
	return nil
}

func ownerIn(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

func groupOf(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Gid }

func (d disk) sync(name string) error {
	f, err := d.open(name, os.O_RDONLY)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d disk) link(name, another string) error { return os.Link(d.path(name), d.path(another)) }

func (d disk) modified(name string) (time.Time, error) {
	info, err := os.Lstat(d.path(name))
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

func (d disk) remove(name string) error {
	err := os.Remove(d.path(name))
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return os.Rename(d.path(name), d.path(filepath.Dir(name)+"/foreign."+rand.Text()))
	}
	return err
}

func (d disk) list(folder string) ([]string, error) {
	f, err := os.Open(d.path(folder))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (d disk) mkdir(name string) error {
	if err := os.Mkdir(d.path(name), folderMode); err != nil {
		return err
	}
	f, err := os.Open(d.path(name))
	if err != nil {
		return err
	}
	return errors.Join(share(f, os.ModeSetgid|folderMode), f.Close())
}

func (d disk) rename(name, another string) error {
	if err := unix.Rename(d.path(name), d.path(another)); err != nil { // os.Rename replaces no folder at all
		return &os.LinkError{Op: "rename", Old: d.path(name), New: d.path(another), Err: err}
	}
	return nil
}

func (d disk) check(network bool) error {
	info, err := os.Stat(string(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: make it first (mkdir -m 700 %s), inside what is mounted there", err, d)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no folder", d)
	}
	if err := d.mayChange("."); err != nil {
		return err
	}
	local, name, err := fileSystem(string(d))
	if err != nil {
		return err
	}
	if !local && !network {
		return fmt.Errorf("%s is on a file system of type %s, which may show a machine what is old: "+
			"set Network for it in all processes, or name a folder on a local disk", d, name)
	}
	return nil
}

func (d disk) mayChange(folder string) error {
	info, err := os.Stat(d.path(folder))
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("every user may write to %s: forbid it (chmod o-w), or name another folder", d.path(folder))
	}
	return nil
}
