package sqlstore_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

const crowd = 50

// crowded runs a benchmark on each system: with one Store, whose watches are woken, and
// with a Store and a pool for each space, as in so many processes.
func crowded(b *testing.B, bench func(b *testing.B, stores []*sqlstore.Store)) {
	b.Helper()
	for _, s := range all {
		for _, how := range []string{"one store", "a store each"} {
			b.Run(s.name+"/"+how, func(b *testing.B) {
				url := s.url(b)
				if s.name == onMariaDB.name {
					url += "?interpolateParams=true"
				}
				stores := make([]*sqlstore.Store, crowd)
				for i := range stores {
					if i > 0 && how == "one store" {
						stores[i] = stores[0]
						continue
					}
					db := testsql.Open(b, s.driver, url)
					if how == "one store" {
						db.SetMaxIdleConns(2 * crowd)
					}
					stores[i] = s.store(db)
				}
				bench(b, stores)
			})
		}
	}
}

// attend opens a space of a name by each store, with a watch.
func attend(b *testing.B, name string, stores []*sqlstore.Store) ([]kv.Space, []kv.Watch) {
	b.Helper()
	ctx := patience(b)
	spaces, watches := make([]kv.Space, len(stores)), make([]kv.Watch, len(stores))
	for i, store := range stores {
		var err error
		spaces[i], err = store.Open(ctx, name)
		require.NoError(b, err)
		watches[i], err = spaces[i].Watch(ctx, "", 0)
		require.NoError(b, err)
	}
	return spaces, watches
}

// see reads a watch until it has reported n keys.
func see(ctx context.Context, w kv.Watch, n int) error {
	keys := map[string]bool{}
	for len(keys) < n {
		changes, err := w.Next(ctx)
		if err != nil {
			return err
		}
		for _, c := range changes.Records {
			keys[c.Key] = true
		}
	}
	return nil
}

// BenchmarkManyAtOnce has 50 users begin a lease each and write a record under it, until
// all have seen all.
func BenchmarkManyAtOnce(b *testing.B) {
	crowded(b, func(b *testing.B, stores []*sqlstore.Store) {
		for n := range b.N {
			b.StopTimer()
			spaces, watches := attend(b, fmt.Sprint(n), stores)
			b.StartTimer()
			all, ctx := errgroup.WithContext(patience(b))
			for i, space := range spaces {
				all.Go(func() error {
					owner := kv.Owner(1 + rand.Int64N(math.MaxInt64))
					if _, err := space.Begin(ctx, owner, time.Hour); err != nil {
						return err
					}
					_, err := space.Commit(ctx, kv.Tx{Put: []kv.Record{{Key: fmt.Sprint(i), Owner: owner}}, Each: func(kv.Record) error { return nil }})
					return err
				})
				all.Go(func() error { return see(ctx, watches[i], crowd) })
			}
			require.NoError(b, all.Wait())
			b.StopTimer()
			for _, space := range spaces {
				space.Close()
			}
			b.StartTimer()
		}
	})
}

// BenchmarkOneIsSeen has 50 watches see one commit.
func BenchmarkOneIsSeen(b *testing.B) {
	crowded(b, func(b *testing.B, stores []*sqlstore.Store) {
		spaces, watches := attend(b, "space", stores)
		b.ResetTimer()
		for range b.N {
			all, ctx := errgroup.WithContext(patience(b))
			for _, w := range watches {
				all.Go(func() error { return see(ctx, w, 1) })
			}
			_, err := spaces[0].Commit(ctx, kv.Tx{Put: []kv.Record{{Key: "k"}}})
			require.NoError(b, err)
			require.NoError(b, all.Wait())
		}
		b.StopTimer()
		for _, space := range spaces {
			space.Close()
		}
	})
}

// BenchmarkCalls has one user call one after another.
func BenchmarkCalls(b *testing.B) {
	for _, s := range all {
		call := func(name string, call func(ctx context.Context, space kv.Space, owner kv.Owner) error) {
			b.Run(s.name+"/"+name, func(b *testing.B) {
				space := open(b, s.store(s.db(b)))
				owner := begin(b, space, time.Hour)
				put(b, space, "k", owner)
				ctx := patience(b)
				for b.Loop() {
					require.NoError(b, call(ctx, space, owner))
				}
			})
		}
		call("Renew", func(ctx context.Context, space kv.Space, owner kv.Owner) error {
			_, err := space.Renew(ctx, owner)
			return err
		})
		call("Get", func(ctx context.Context, space kv.Space, _ kv.Owner) error {
			_, _, err := space.Get(ctx, "k")
			return err
		})
		call("Commit", func(ctx context.Context, space kv.Space, owner kv.Owner) error {
			_, err := space.Commit(ctx, kv.Tx{If: []kv.Cond{kv.OwnedBy("k", owner)}, Put: []kv.Record{{Key: "k", Owner: owner}}})
			return err
		})
	}
}
