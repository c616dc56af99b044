package registrytest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/kv/kvtest"
	"github.com/libcluster/libcluster/registrytest"
)

// storeHarness is a registry on a store, whose strangers write to the store itself.
func storeHarness(open func(t *testing.T) kv.Store) registrytest.Harness {
	var stores sync.Map // by registry
	commit := func(ctx context.Context, r libcluster.Registry, cluster string, tx kv.Tx) error {
		store, _ := stores.Load(r)
		space, err := store.(kv.Store).Open(ctx, cluster)
		if err != nil {
			return err
		}
		defer space.Close()
		_, err = space.Commit(ctx, tx)
		if errors.Is(err, kv.ErrRefused) {
			return nil // the store keeps strangers from writing it
		}
		return err
	}
	return registrytest.Harness{
		Open: func(t *testing.T) libcluster.Registry {
			store := open(t)
			r := libcluster.OnStore(store)
			stores.Store(r, store)
			return r
		},
		Put: func(ctx context.Context, r libcluster.Registry, cluster, id string, record []byte) error {
			return commit(ctx, r, cluster, kv.Tx{Put: []kv.Record{{Key: id, Value: record}}})
		},
		Delete: func(ctx context.Context, r libcluster.Registry, cluster, id string) error {
			return commit(ctx, r, cluster, kv.Tx{Delete: []string{id}})
		},
		TTL: 5 * time.Second,
	}
}

func memory(*testing.T) kv.Store { return kvtest.NewMemory() }

func TestAnyStoreKeepsThePromisesInRealTime(t *testing.T) {
	t.Parallel()
	registrytest.Run(t, storeHarness(memory))
}

func TestAnyStoreKeepsThePromisesInVirtualTime(t *testing.T) {
	h := storeHarness(memory)
	h.TTL = 24 * time.Hour
	h.Around = synctest.Test
	registrytest.Run(t, h)
}
