package libcluster_test

import (
	"os"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster/internal/testcluster"
	"github.com/libcluster/libcluster/internal/testetcd"
)

func TestMain(m *testing.M) {
	if how := os.Getenv(panicking); how != "" {
		panicInRun(how)
	}
	testetcd.Main(m)
}

// patience bounds every wait in these tests.
const patience = testetcd.Patience

func etcdURL(t testing.TB) string { return testetcd.URL(t) }

func etcdClient(t testing.TB, configure ...func(*clientv3.Config)) *clientv3.Client {
	t.Helper()
	return testetcd.Client(t, configure...)
}

func key(t testing.TB) string { return testcluster.Key(t) }

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
