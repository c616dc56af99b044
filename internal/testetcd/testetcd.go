// Package testetcd is the etcd that the tests of a package share, and what those need
// that run one of their own.
package testetcd

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/libcluster/libcluster/embedded"
	"github.com/libcluster/libcluster/internal/testhost"
)

// Patience is how long a test waits for what it waits for, before it fails. It is the
// only bound on real time in the tests: long, because it is only used up by a failure,
// and a machine may be many times slower than the one that a test was written on. How
// soon something comes is judged in virtual time, and reported by benchmarks.
const Patience = time.Minute

// binaryEnv names an etcd binary that tests run instead of the embedded etcd.
const binaryEnv = "LIBCLUSTER_ETCD_BIN"

// server is an etcd that the tests of a package share.
type server interface {
	Endpoint() string
	Close() error
}

var shared struct {
	once   sync.Once
	server server
	err    error
}

// URL returns the URL of a real etcd, for tests that use a key of their own each. The
// first test to ask starts it, for the tests of its package alone: it is the binary
// at LIBCLUSTER_ETCD_BIN, or an embedded etcd.
func URL(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if binary := os.Getenv(binaryEnv); binary != "" {
			shared.server, shared.err = startProcess(ctx, binary, testhost.FreePort(t), testhost.FreePort(t))
			return
		}
		shared.server, shared.err = embedded.Start(ctx, embedded.Config{Fast: true})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server.Endpoint()
}

// Main runs a package's tests, ends the etcd, and fails if a goroutine was left.
func Main(m *testing.M) {
	testhost.Parallel(16)
	code := m.Run()
	if p, ok := shared.server.(*process); ok && code != 0 {
		fmt.Fprintf(os.Stderr, "the log of %s:\n%s\n", p.command.Path, p.log())
	}
	if shared.server != nil {
		if err := shared.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "closing etcd:", err)
			code = 1
		}
	}
	if code == 0 {
		if err := Leaked(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// Leaked returns an error if goroutines go on running, but for the ignored ones. They
// have time to end: etcd's side of a connection does so some time after the client's.
func Leaked(ignored ...goleak.Option) error {
	for began := time.Now(); ; {
		if err := goleak.Find(ignored...); err == nil || time.Since(began) > Patience {
			return err
		}
	}
}
