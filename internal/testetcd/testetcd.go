// Package testetcd is the etcd that the tests of a package share, and what those need
// that run one of their own.
package testetcd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/libcluster/libcluster/embedded"
)

// startTimeout is long, because it is only used up by a failure.
const startTimeout = 30 * time.Second

// endTimeout is long for the same reason.
const endTimeout = 10 * time.Second

var shared struct {
	once   sync.Once
	server *embedded.Server
	err    error
}

// URL returns the URLs of a real etcd, for tests that use a key of their own each:
// that of LIBCLUSTER_ETCD, or an embedded one that the first to ask starts. One
// that is given is for one package at a time: a test compacts it.
func URL(t testing.TB) string {
	t.Helper()
	if urls := os.Getenv("LIBCLUSTER_ETCD"); urls != "" {
		return urls
	}
	shared.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		shared.server, shared.err = embedded.Start(ctx, embedded.Config{Fast: true})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server.Endpoint()
}

// Main runs a package's tests, ends the etcd, and fails if a goroutine was left.
func Main(m *testing.M) {
	code := m.Run()
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
		if err := goleak.Find(ignored...); err == nil || time.Since(began) > endTimeout {
			return err
		}
	}
}

// FreePort returns a port on which nobody listens, another one each time: it may be
// some time until something does, or again. It is not one that the system gives to
// clients that ask for any: they could take it meanwhile, or one that dials a server
// that is down could be connected to itself.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10000 + rand.IntN(20000)
		if _, given := ports.LoadOrStore(port, true); given {
			continue
		}
		if l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// ports are those that FreePort has returned, or found in use.
var ports sync.Map
