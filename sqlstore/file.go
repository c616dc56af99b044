package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"

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
		s.file.CompareAndSwap(nil, &file{path.String, is})
	}
	return nil
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
