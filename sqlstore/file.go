package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/libcluster/libcluster/kv"
)

// file is the file that a database is in, as it was when it was opened.
type file struct {
	path string
	was  os.FileInfo
}

// findFile notes the file, if the database is in one of this machine.
func (s *Store) findFile(ctx context.Context, c session) error {
	if s.lang.file == "" || s.file.Load() != nil {
		return nil
	}
	var path sql.NullString
	err := c.query(ctx, s.lang.file, nil, func(rows *sql.Rows) error { return rows.Scan(&path) })
	if err != nil {
		return err
	}
	if is, err := os.Stat(path.String); err == nil {
		if err := hasOneName(path.String, is); err != nil {
			return err
		}
		s.file.CompareAndSwap(nil, &file{path.String, is})
	}
	return nil
}

// hasOneName returns an error if other programs may know the file by another name. SQLite keeps what was written
// last in a file beside it, so each would see nothing of what the others write.
func hasOneName(path string, is os.FileInfo) error {
	if links(is) > 1 {
		return fmt.Errorf("%w: the file %s has another name, too, and by that programs see nothing of what is written here: "+
			"remove the hard link", kv.ErrRefused, path)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil && isMounted(string(mounts), path) { // on Linux
		return fmt.Errorf("%w: the file %s is mounted without its folder, and elsewhere programs see nothing of what is written here: "+
			"mount the folder", kv.ErrRefused, path)
	}
	return nil
}

// isMounted reports whether Linux has mounted something at a path.
func isMounted(mounts, path string) bool {
	path = strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(path)
	for line := range strings.Lines(mounts) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == path {
			return true
		}
	}
	return false
}

// moved returns an error if another file is there now, or none. SQLite goes on with the old one, in
// which nobody else is: two clusters would act beside each other for ever. (Without WAL it
// notices that itself.) Other connections of the pool, and the application's, may have either file.
func (s *Store) moved() error {
	f := s.file.Load()
	if f == nil {
		return nil
	}
	is, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(is, f.was) {
		return fmt.Errorf("%w: the file %s was removed or replaced while it was open: "+
			"end all programs that use it, then start them again", kv.ErrRefused, f.path)
	}
	return nil
}
