package libcluster_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testetcd"
)

func TestMain(m *testing.M) {
	if how := os.Getenv(panicking); how != "" {
		panicInRun(how)
	}
	testetcd.Main(m)
}

func etcdURL(t testing.TB) string { return testetcd.URL(t) }

// etcdClient returns a client of the tests' own.
func etcdClient(t testing.TB, configure ...func(*clientv3.Config)) *clientv3.Client {
	t.Helper()
	config := clientv3.Config{
		Endpoints:   []string{etcdURL(t)},
		DialTimeout: patience,
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

// patient is an etcd for tests that open a session by themselves, and do not try again: on
// a busy machine a request may take longer than the default.
func patient(t testing.TB) libcluster.EtcdConfig {
	return libcluster.EtcdConfig{Endpoints: []string{etcdURL(t)}, RequestTimeout: patience}
}

// key returns a cluster key that no other test uses, nor an earlier run.
func key(t testing.TB) string {
	return fmt.Sprintf("%s %d", strings.NewReplacer("/", " ", "#", " ").Replace(t.Name()), time.Now().UnixNano())
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
