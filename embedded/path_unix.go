//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxLinks is what Linux allows in a path.
const maxLinks = 40

// checkPath refuses a folder that another user can put something into, or could put
// something else in the place of. That goes for each folder on the way, and each link:
// it belongs to this user or to root, and nobody else may write to it. One that is sticky,
// as /tmp is, will do on the way, since what is in it is safe from others.
//
// What is not there yet is no trouble: we make it.
func checkPath(dir string) error {
	top, err := os.Lstat("/")
	if err != nil {
		return err
	}
	trusted := []int{os.Geteuid(), 0, ownerOf(top)} // in a namespace root may go by another number
	links := 0
	at, rest := "/", strings.Split(dir, "/")
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." { // of a link's target
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
		switch {
		case !slices.Contains(trusted, ownerOf(info)):
			return foreign(next)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(next)
			if links++; err == nil && links > maxLinks {
				err = fmt.Errorf("%s: too many links", dir)
			}
			if err != nil {
				return err
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
			continue
		case othersWrite(info) && info.Mode()&fs.ModeSticky == 0:
			return shared(next)
		}
		at = next
	}
	switch info, err := os.Lstat(at); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case ownerOf(info) != os.Geteuid():
		return foreign(at)
	case othersWrite(info):
		return shared(at)
	}
	return nil
}

func foreign(path string) error {
	return fmt.Errorf("%s belongs to another user: name another folder", path)
}

func shared(path string) error {
	return fmt.Errorf("other users may write to %s: forbid it (chmod go-w), or name another folder", path)
}

func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// othersWrite reports whether others may write to a folder. A group of the owner's number
// is taken for the owner's own, as many systems have it.
func othersWrite(info fs.FileInfo) bool {
	stat := info.Sys().(*syscall.Stat_t)
	return info.Mode().Perm()&0o002 != 0 || info.Mode().Perm()&0o020 != 0 && stat.Gid != stat.Uid
}
