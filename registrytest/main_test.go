package registrytest_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/libcluster/libcluster/embedded"
)

// TestMain also checks that no test has left a goroutine behind, after the etcd
// that they share has ended.
func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "closing etcd:", err)
			code = 1
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// shared is one real etcd for all tests; the suite uses a key of its own in each.
var shared struct {
	once   sync.Once
	server *embedded.Server
	err    error
}

// etcdURL returns the URLs of a real etcd: that of LIBCLUSTER_ETCD, or an
// embedded one.
func etcdURL(t *testing.T) string {
	t.Helper()
	if urls := os.Getenv("LIBCLUSTER_ETCD"); urls != "" {
		return urls
	}
	shared.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		shared.server, shared.err = embedded.Start(ctx, embedded.Config{Fast: true})
	})
	require.NoError(t, shared.err)
	return shared.server.Endpoint()
}
