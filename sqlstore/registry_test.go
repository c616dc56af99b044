package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/registrytest"
)

// apart enters by two registries in turn: instances are like those of different processes, which
// learn of one another only by what is in the database.
type apart struct {
	store      kv.Store
	registries [2]libcluster.Registry
	entered    atomic.Uint64
}

func newApart(s system, db *sql.DB) *apart {
	a := &apart{store: s.store(db)}
	for i := range a.registries {
		a.registries[i] = libcluster.OnStore(s.store(db))
	}
	return a
}

func (a *apart) String() string { return "a database" }

func (a *apart) Capabilities() libcluster.Capabilities { return a.registries[0].Capabilities() }

func (a *apart) Enter(r libcluster.Registration) (libcluster.Membership, error) {
	return a.registries[a.entered.Add(1)%2].Enter(r)
}

// commit writes as a stranger does.
func (a *apart) commit(ctx context.Context, cluster string, tx kv.Tx) error {
	space, err := a.store.Open(ctx, cluster)
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

func keepsThePromises(t *testing.T, open func(t *testing.T) *apart) {
	t.Helper()
	t.Parallel()
	registrytest.Run(t, registrytest.Harness{
		Open: func(t *testing.T) libcluster.Registry { return open(t) },
		Put: func(ctx context.Context, r libcluster.Registry, cluster, id string, record []byte) error {
			return r.(*apart).commit(ctx, cluster, kv.Tx{Put: []kv.Record{{Key: id, Value: record}}})
		},
		Delete: func(ctx context.Context, r libcluster.Registry, cluster, id string) error {
			return r.(*apart).commit(ctx, cluster, kv.Tx{Delete: []string{id}})
		},
		TTL: 3 * time.Second, // a busy machine must not take longer to renew a lease
	})
}

func TestSQLStoresKeepThePromises(t *testing.T) {
	t.Parallel()
	// One file has one writer at a time, so each test has its own.
	t.Run(onSQLite.name, func(t *testing.T) {
		keepsThePromises(t, func(t *testing.T) *apart { return newApart(onSQLite, onSQLite.db(t)) })
	})
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			a := newApart(s, s.db(t))
			keepsThePromises(t, func(*testing.T) *apart { return a })
		})
	}
}
