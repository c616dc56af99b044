package testsql

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/libcluster/libcluster/internal/testhost"
)

// postgresProgram returns where a program of PostgreSQL is. Debian keeps them out of PATH.
func postgresProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // the pattern is good
	if len(found) == 0 {
		return "", errors.New("PostgreSQL is not installed: on Debian, apt-get install postgresql")
	}
	return found[len(found)-1], nil
}

// newPostgres returns a PostgreSQL that has a folder, no data, and does not run.
func newPostgres(t testing.TB) (*server, error) {
	s, err := newServer("postgres", syscall.SIGQUIT)
	if err != nil {
		return nil, err
	}
	s.port = testhost.FreePort(t)
	s.url = func(database string) string {
		return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
	}
	return s, nil
}

// runPostgres runs a program of PostgreSQL to its end.
func (s *server) runPostgres(ctx context.Context, program string, args ...string) error {
	path, err := postgresProgram(program)
	if err != nil {
		return err
	}
	return s.run(ctx, path, args...)
}

// initPostgres makes its data.
func (s *server) initPostgres(ctx context.Context) error {
	return s.runPostgres(ctx, "initdb", "-D", s.file("data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
}

// startPostgres starts it with the data that it has.
func (s *server) startPostgres(ctx context.Context, args ...string) error {
	path, err := postgresProgram("postgres")
	if err != nil {
		return err
	}
	return s.start(ctx, "pgx", s.url("postgres"), path, append([]string{
		"-D", s.file("data"), "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=" + s.dir, "-c", "fsync=off", "-c", "max_connections=400",
	}, args...)...)
}

func startPostgres(t testing.TB, ctx context.Context) (*server, error) {
	s, err := newPostgres(t)
	if err != nil {
		return nil, err
	}
	if err = s.initPostgres(ctx); err == nil {
		err = s.startPostgres(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting PostgreSQL: %w", err), s.close())
	}
	return s, nil
}
