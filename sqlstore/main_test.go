package sqlstore_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/internal/teststore"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

// watchdog ends a test that does not come to its end. No other time is judged.
const watchdog = 2 * time.Minute

// long is for leases that must not end.
const long = time.Hour

func TestMain(m *testing.M) { testsql.Main(m) }

// system is a database to test on.
type system struct {
	name   string
	driver string
	url    func(t testing.TB) string // of a new database
	store  func(db *sql.DB) *sqlstore.Store
}

var (
	onSQLite   = system{"SQLite", "sqlite", sqliteURL, sqlstore.SQLite}
	onPostgres = system{"Postgres", "pgx", testsql.Postgres, sqlstore.Postgres}
	onMariaDB  = system{"MariaDB", "mysql", testsql.MariaDB, sqlstore.MySQL}

	// all are those that the tests run on: with the tag databases also the servers.
	all     = []system{onSQLite}
	servers []system
)

func sqliteURL(t testing.TB) string {
	t.Helper()
	return "file:" + filepath.Join(t.TempDir(), "store") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)"
}

// idle is how many connections a pool keeps. By default it keeps two, and with many spaces most
// are made anew for each call.
const idle = 100

// db returns a new database, until the test has ended.
func (s system) db(t testing.TB) *sql.DB {
	t.Helper()
	url, db := s.url(t), (*sql.DB)(nil)
	t.Cleanup(func() { // a statement that nobody waits for any more may still write to a folder that is to go
		require.Eventually(t, func() bool { return db.Stats().OpenConnections == 0 }, watchdog, time.Millisecond)
	})
	db = testsql.Open(t, s.driver, url)
	db.SetMaxIdleConns(idle)
	return db
}

// on runs a test on systems, each with a new database.
func on(t *testing.T, systems []system, test func(t *testing.T, db *sql.DB, store *sqlstore.Store)) {
	t.Helper()
	for _, s := range systems {
		t.Run(s.name, func(t *testing.T) {
			db := s.db(t)
			test(t, db, s.store(db))
		})
	}
}

// systemOf returns what a test of on is run on.
func systemOf(t *testing.T) system {
	t.Helper()
	i := slices.IndexFunc(all, func(s system) bool { return strings.HasSuffix(t.Name(), "/"+s.name) })
	require.GreaterOrEqual(t, i, 0)
	return all[i]
}

func patience(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	t.Cleanup(cancel)
	return ctx
}

func open(t testing.TB, store *sqlstore.Store) kv.Space {
	t.Helper()
	space, err := store.Open(patience(t), "space")
	require.NoError(t, err)
	t.Cleanup(func() { space.Close() })
	return space
}

func begin(t testing.TB, space kv.Space, ttl time.Duration) kv.Owner {
	t.Helper()
	owner := randomOwner()
	_, err := space.Begin(patience(t), owner, ttl)
	require.NoError(t, err)
	return owner
}

func randomOwner() kv.Owner { return teststore.Owner() }

func put(t testing.TB, space kv.Space, key string, owner kv.Owner) kv.Mark {
	t.Helper()
	result, err := space.Commit(patience(t), kv.Tx{Put: []kv.Record{{Key: key, Owner: owner}}})
	require.NoError(t, err)
	require.True(t, result.Done)
	return result.Mark
}

func exec(t testing.TB, db *sql.DB, statement string, args ...any) {
	t.Helper()
	_, err := db.ExecContext(patience(t), statement, args...)
	require.NoError(t, err, statement)
}
