// Package teststore tests what is built on stores, on any store.
package teststore

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/registrytest"
)

// Apart enters by two registries in turn: instances are like those of different processes, which
// learn of one another only by what is in the database.
type Apart struct {
	store      kv.Store
	registries [2]libcluster.Registry
	entered    atomic.Uint64
}

// NewApart returns a registry on stores that open returns, which are all in one place.
func NewApart(open func() kv.Store) *Apart {
	a := &Apart{store: open()}
	for i := range a.registries {
		a.registries[i] = libcluster.OnStore(open())
	}
	return a
}

// String returns "a store".
func (a *Apart) String() string { return "a store" }

// Capabilities are those of every store.
func (a *Apart) Capabilities() libcluster.Capabilities { return a.registries[0].Capabilities() }

// Enter enters by the next registry.
func (a *Apart) Enter(r libcluster.Registration) (libcluster.Membership, error) {
	return a.registries[a.entered.Add(1)%2].Enter(r)
}

// commit writes as another program does.
func (a *Apart) commit(ctx context.Context, cluster string, tx kv.Tx) error {
	space, err := a.store.Open(ctx, cluster)
	if err != nil {
		return err
	}
	defer space.Close()
	_, err = space.Commit(ctx, tx)
	if errors.Is(err, kv.ErrRefused) {
		return nil // the store does not let other programs write it
	}
	return err
}

// KeepsThePromises holds registries to the promises. It may be handed the same one each time.
func KeepsThePromises(t *testing.T, open func(t *testing.T) *Apart) {
	t.Helper()
	t.Parallel()
	registrytest.Run(t, registrytest.Harness{
		Open: func(t *testing.T) libcluster.Registry { return open(t) },
		Put: func(ctx context.Context, r libcluster.Registry, cluster, id string, record []byte) error {
			return r.(*Apart).commit(ctx, cluster, kv.Tx{Put: []kv.Record{{Key: id, Value: record}}})
		},
		Delete: func(ctx context.Context, r libcluster.Registry, cluster, id string) error {
			return r.(*Apart).commit(ctx, cluster, kv.Tx{Delete: []string{id}})
		},
		TTL: 3 * time.Second, // a busy machine must not take longer to renew a lease
	})
}
