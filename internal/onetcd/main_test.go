package onetcd_test

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testcluster"
	"github.com/libcluster/libcluster/internal/testetcd"
)

func TestMain(m *testing.M) { testetcd.Main(m) }

// patience bounds every wait in these tests.
const patience = testetcd.Patience

var (
	withPlan = []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive}
	allModes = []libcluster.Mode{
		libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive, libcluster.ModeCooperative,
	}
)

// instance is one on the etcd of these tests, unless it has another registry.
type instance struct {
	*testcluster.Instance
	t testing.TB
}

func start(t testing.TB, cfg libcluster.Config) *instance {
	t.Helper()
	return &instance{testcluster.Start(t, onEtcd(t, cfg)), t}
}

func prepare(t testing.TB, cfg libcluster.Config) *instance {
	t.Helper()
	return &instance{testcluster.Prepare(t, onEtcd(t, cfg)), t}
}

func onEtcd(t testing.TB, cfg libcluster.Config) libcluster.Config {
	if cfg.Registry == nil {
		cfg.Registry = libcluster.Etcd(etcdURL(t))
	}
	return cfg
}

func etcdURL(t testing.TB) string { return testetcd.URL(t) }

func etcdClient(t testing.TB, configure ...func(*clientv3.Config)) *clientv3.Client {
	t.Helper()
	return testetcd.Client(t, configure...)
}

// patient is an etcd for tests that open a session by themselves, and do not try again: on
// a busy machine a request may take longer than the default.
func patient(t testing.TB) libcluster.EtcdConfig {
	return libcluster.EtcdConfig{Endpoints: []string{etcdURL(t)}, RequestTimeout: patience}
}

func key(t testing.TB) string { return testcluster.Key(t) }
