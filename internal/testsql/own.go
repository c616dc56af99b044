package testsql

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libcluster/libcluster/internal/testetcd"
)

// Own is a PostgreSQL of a test's own, which may suffer.
type Own struct {
	t      testing.TB
	server *server
	args   []string
}

// OwnPostgres starts one until the test has ended. Arguments are those of the server.
func OwnPostgres(t testing.TB, args ...string) *Own {
	t.Helper()
	o := newOwn(t, args)
	o.begin()
	return o
}

// PostgresWithAClock is OwnPostgres with a clock that goes ahead of ours by as much as the
// last call of ahead has said, in whole seconds.
func PostgresWithAClock(t testing.TB) (o *Own, ahead func(time.Duration)) {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1") // the pattern is good
	if len(found) == 0 {
		t.Fatal("libfaketime is not installed: on Debian, apt-get install faketime")
	}
	o = newOwn(t, nil)
	file := o.server.file("clock")
	ahead = func(d time.Duration) {
		t.Helper()
		o.must(os.WriteFile(file+".new", fmt.Appendf(nil, "%+d", d/time.Second), 0o644))
		o.must(os.Rename(file+".new", file))
	}
	ahead(0)
	o.server.env = []string{
		"LD_PRELOAD=" + found[0], "FAKETIME_TIMESTAMP_FILE=" + file, "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
	}
	o.begin()
	return o, ahead
}

// begin makes the data of a server, and starts it.
func (o *Own) begin() {
	o.t.Helper()
	o.must(o.server.initPostgres(o.within()))
	o.Start()
}

func newOwn(t testing.TB, args []string) *Own {
	t.Helper()
	s, err := newPostgres(t)
	if err != nil {
		t.Fatal(err)
	}
	o := &Own{t, s, args}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of a PostgreSQL of its own:\n%s", s.log())
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

func (o *Own) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *Own) within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testetcd.Patience)
	o.t.Cleanup(cancel)
	return ctx
}

// URL returns the URL of its database, for the driver "pgx".
func (o *Own) URL() string { return o.server.url("postgres") }

// Address returns host and port.
func (o *Own) Address() string {
	host, _, _ := strings.Cut(strings.TrimPrefix(o.URL(), "postgres://postgres@"), "/")
	return host
}

// Kill ends the server as kill -9 does. Its other processes notice that by themselves.
func (o *Own) Kill() { o.server.end(syscall.SIGKILL) }

// Start starts the server with the data that it has. While processes of the one before are
// there it does not start, and so is started again.
func (o *Own) Start() {
	o.t.Helper()
	ctx := o.within()
	for {
		err := o.server.startPostgres(ctx, o.args...)
		if err == nil {
			return
		}
		if ctx.Err() != nil || !strings.Contains(string(o.server.log()), "shared memory block") && !strings.Contains(string(o.server.log()), "lock file") {
			o.t.Fatal(err)
		}
		time.Sleep(askEvery)
	}
}

// Replica starts a replica, which follows as asynchronously as it can.
func (o *Own) Replica() *Own {
	o.t.Helper()
	r := newOwn(o.t, o.args)
	r.must(r.server.runPostgres(o.within(), "pg_basebackup", "-d", o.URL(), "-D", r.server.file("data"), "-R", "-X", "stream", "-c", "fast", "--no-sync"))
	r.Start()
	return r
}

// OwnMariaDB starts a MariaDB until the test has ended, and returns its name for the driver
// "mysql".
func OwnMariaDB(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testetcd.Patience)
	defer cancel()
	s, err := startMariaDB(t, ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s.url("")
}
