package registryflag

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"strings"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/embedded"
	"github.com/libcluster/libcluster/sqlstore"
)

// Registry is a registry, with what has to run for it.
type Registry struct {
	libcluster.Registry
	// Embedded is the etcd that has to run in some process; nil: none.
	Embedded *embedded.Config
	// ID is what the instance is called in the registry's own configuration, or empty.
	ID string
	// Tables are the statements that make the tables, if it is in a database.
	Tables string

	etcd    *libcluster.EtcdConfig                // is Registry, if embedded
	file    string                                // or folder that it is in
	closer  io.Closer                             // what it needs; nil: nothing
	logging func(*zap.Logger) libcluster.Registry // is Registry, with a log; nil: there is nothing to log
}

// LogTo has logged what is beside the registry, of the instances that are made afterwards.
func (r *Registry) LogTo(log *zap.Logger) {
	if r.logging != nil {
		r.Registry = r.logging(log)
	}
}

// String is where the registry is, for people.
func (r *Registry) String() string { return fmt.Sprint(r.Registry) }

// Needs is what Start opens, for people, or empty.
func (r *Registry) Needs() string {
	if r.Embedded == nil {
		return ""
	}
	return fmt.Sprintf("the embedded etcd on port %d", r.Embedded.Port)
}

// Start opens what has to run for the registry in this process.
func (r *Registry) Start(ctx context.Context, log *zap.Logger) error {
	if r.Embedded == nil {
		return nil
	}
	config := *r.Embedded
	config.Logger = log
	shared, err := embedded.Open(ctx, config)
	if err != nil {
		return fmt.Errorf("cannot open the embedded etcd: %s", OneLine(err))
	}
	r.etcd.TLS = shared.TLS()
	r.closer = shared
	return nil
}

// Close closes what the registry needs. Instances need it for leaving.
func (r *Registry) Close() error {
	if r.closer == nil {
		return nil
	}
	if err := r.closer.Close(); err != nil {
		what := r.String()
		if r.Embedded != nil {
			what = "the embedded etcd"
		}
		return fmt.Errorf("cannot close %s: %s", what, OneLine(err))
	}
	return nil
}

// Exists returns an error if the file or folder of the registry is not there. To look at
// it would make it.
func (r *Registry) Exists() error {
	if r.file == "" {
		return nil
	}
	_, err := os.Stat(r.file)
	return err
}

// openFolder has the registry in a folder on a local disk.
func (f *Flags) openFolder(folder string) (*Registry, error) {
	if folder == "" {
		return nil, fmt.Errorf("%s: names no folder; must be dir:FOLDER", f.Shown("registry"))
	}
	r := f.onStore(dirstore.Dir(folder))
	r.file = folder
	return r, nil
}

// openSQLite has the registry in a file of SQLite's, which all processes of the machine
// can use that may write it.
func (f *Flags) openSQLite(file string) (*Registry, error) {
	if file == "" {
		return nil, fmt.Errorf("%s: names no file; must be sqlite:FILE", f.Shown("registry"))
	}
	escaped := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(file)
	db, err := sql.Open("sqlite", "file:"+escaped+"?_pragma=journal_mode(WAL)")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Shown("registry"), err)
	}
	store := sqlstore.SQLite(db)
	r := f.onStore(named{store, "SQLite in " + file})
	r.Tables, r.file, r.closer = store.Script(), file, db
	return r, nil
}
