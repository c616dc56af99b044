package libcluster_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

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

// shared is one real etcd for all tests; each uses a key of its own.
var shared struct {
	once   sync.Once
	server *embedded.Server
	err    error
}

// etcdURL returns the URLs of a real etcd: that of LIBCLUSTER_ETCD, or an
// embedded one.
func etcdURL(t testing.TB) string {
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

// etcdClient returns a client of the tests' own.
func etcdClient(t testing.TB, configure ...func(*clientv3.Config)) *clientv3.Client {
	t.Helper()
	config := clientv3.Config{
		Endpoints:   strings.Split(etcdURL(t), ","),
		DialTimeout: 5 * time.Second,
		Logger:      zap.NewNop(),
	}
	for _, f := range configure {
		f(&config)
	}
	client, err := clientv3.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// key returns a cluster key that no other test uses, nor an earlier run.
func key(t testing.TB) string {
	return fmt.Sprintf("%s %d", strings.NewReplacer("/", " ", "#", " ").Replace(t.Name()), time.Now().UnixNano())
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
