// Package testsql is the PostgreSQL and the MariaDB that the tests of a package share. They
// are those of Debian, and run as an ordinary user.
package testsql

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // tests open what URLs say

	"github.com/libcluster/libcluster/internal/testetcd"
	"github.com/libcluster/libcluster/internal/testhost"
)

// shared is a server that is started when the first test asks for it.
type shared struct {
	start  func(t testing.TB, ctx context.Context) (*server, error)
	once   sync.Once
	server *server
	err    error
}

var (
	postgresql = shared{start: startPostgres}
	mariaDB    = shared{start: startMariaDB}
)

// get returns the server, and fails the test if there is none.
func (s *shared) get(t testing.TB) *server {
	t.Helper()
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testetcd.Patience)
		defer cancel()
		s.server, s.err = s.start(t, ctx)
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.server
}

// close ends the server, if it was started, and shows its log if a test has failed.
func (s *shared) close(failed bool) error {
	if s.server == nil {
		return nil
	}
	if failed {
		fmt.Fprintf(os.Stderr, "the log of %s:\n%s\n", s.server.name, s.server.log())
	}
	return s.server.close()
}

// Main runs a package's tests, ends the servers, and fails if a goroutine was left.
func Main(m *testing.M) {
	testhost.Parallel(16)
	// It would tell of each connection that a test has killed.
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil {
		panic(err)
	}
	code := m.Run()
	for _, s := range []*shared{&postgresql, &mariaDB} {
		if err := s.close(code != 0); err != nil {
			fmt.Fprintln(os.Stderr, "ending a database:", err)
			code = 1
		}
	}
	if code == 0 {
		if err := testetcd.Leaked(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// Postgres returns the URL of a new database in the PostgreSQL that tests share, for the
// driver "pgx". Its user may do everything.
func Postgres(t testing.TB) string {
	t.Helper()
	s := postgresql.get(t)
	name := newName()
	run(t, "pgx", s.url("postgres"), "CREATE DATABASE "+name)
	return s.url(name)
}

// MariaDB returns the name of a new database in the MariaDB that tests share, for the driver
// "mysql". Its user may do everything.
func MariaDB(t testing.TB) string {
	t.Helper()
	s := mariaDB.get(t)
	name := newName()
	run(t, "mysql", s.url(""), "CREATE DATABASE "+name)
	return s.url(name)
}

// newName returns the name of a new database.
func newName() string { return "test_" + strings.ToLower(rand.Text()) }

// run executes a statement.
func run(t testing.TB, driver, url, statement string) {
	t.Helper()
	db := Open(t, driver, url)
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Open opens a database until the test has ended.
func Open(t testing.TB, driver, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
