package registrytest_test

import (
	"context"
	"testing"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testetcd"
	"github.com/libcluster/libcluster/registrytest"
)

// patience is how long one request may take here: what is tested is what an etcd
// answers, not how soon on a busy machine with a slow disk.
const patience = testetcd.Patience

// etcdHarness is an etcd registry whose strangers write with a client of their
// own.
func etcdHarness(t *testing.T) registrytest.Harness {
	t.Helper()
	stranger := testetcd.Client(t)
	return registrytest.Harness{
		Open: func(t *testing.T) libcluster.Registry {
			return libcluster.EtcdConfig{Endpoints: []string{testetcd.URL(t)}, RequestTimeout: patience}
		},
		Put: func(ctx context.Context, _ libcluster.Registry, cluster, id string, record []byte) error {
			_, err := stranger.Put(ctx, "/"+cluster+"/"+id, string(record))
			return err
		},
		Delete: func(ctx context.Context, _ libcluster.Registry, cluster, id string) error {
			_, err := stranger.Delete(ctx, "/"+cluster+"/"+id)
			return err
		},
		TTL:      5 * time.Second,
		Patience: patience,
	}
}

func TestEtcdKeepsThePromises(t *testing.T) {
	t.Parallel()
	registrytest.Run(t, etcdHarness(t))
}

func TestEtcdKeepsThePromisesOnAClientOfTheCallers(t *testing.T) {
	t.Parallel()
	h := etcdHarness(t)
	h.Open = func(t *testing.T) libcluster.Registry {
		return libcluster.EtcdConfig{Client: testetcd.Client(t), RequestTimeout: patience}
	}
	registrytest.Run(t, h)
}
