package heartbeats_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/heartbeats"
	"github.com/libcluster/libcluster/internal/teststore"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/kv/kvtest"
)

// loopback is any free port, which only this machine reaches.
var loopback = heartbeats.Config{Bind: "127.0.0.1:0"}

// apart opens spaces by two stores in turn, as two processes do, which hear each other.
type apart struct {
	stores [2]kv.Store
	opened atomic.Uint64
}

func newApart(inner func() kv.Store) *apart {
	a := &apart{}
	for i := range a.stores {
		a.stores[i] = heartbeats.Beside(inner(), loopback)
	}
	return a
}

func (a *apart) Open(ctx context.Context, space string) (kv.Space, error) {
	return a.stores[a.opened.Add(1)%2].Open(ctx, space)
}

func TestFolderBesideHeartbeatsIsAStore(t *testing.T) {
	t.Parallel()
	kvtest.Run(t, kvtest.Harness{
		Open: func(t *testing.T) kv.Store {
			dir := shm(t)
			return newApart(func() kv.Store { return dirstore.Dir(dir) })
		},
	})
}

func TestMemoryBesideHeartbeatsIsAStore(t *testing.T) {
	t.Parallel()
	memories := sync.Map{} // by their stores
	kvtest.Run(t, kvtest.Harness{
		Open: func(*testing.T) kv.Store {
			memory := kvtest.NewMemory()
			store := newApart(func() kv.Store { return memory })
			memories.Store(store, memory)
			return store
		},
		Forget: func(_ *testing.T, store kv.Store, space string) {
			memory, _ := memories.Load(store)
			memory.(*kvtest.Memory).Forget(space)
		},
	})
}

func TestStoreBesideHeartbeatsKeepsThePromises(t *testing.T) {
	dir := shm(t)
	a := teststore.NewApart(func() kv.Store { return heartbeats.Beside(dirstore.Dir(dir), loopback) })
	teststore.KeepsThePromises(t, func(*testing.T) *teststore.Apart { return a })
}
