//go:build databases

package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
	"github.com/libcluster/libcluster/sqlstore/pgnotify"
)

// listening returns a store in a PostgreSQL whose watches are woken, and a channel on which
// comes when they hear all.
func listening(b *testing.B, url string) (*sqlstore.Store, chan bool) {
	b.Helper()
	config, err := pgx.ParseConfig(url)
	require.NoError(b, err)
	store, hears := sqlstore.Postgres(testsql.Open(b, "pgx", url)), make(chan bool, 100)
	store.Wake = func(ctx context.Context, to sqlstore.Listening) {
		tell := to.Hears
		to.Hears = func(all bool) {
			tell(all)
			hears <- all
		}
		pgnotify.Listener{Config: config}.Listen(ctx, to)
	}
	return store, hears
}

// BenchmarkOneIsHeard has 50 watches of as many processes see one commit: by looking, or
// since they hear of it. p50 and max are of all watches in all rounds.
func BenchmarkOneIsHeard(b *testing.B) {
	for _, how := range []string{"looking", "hearing"} {
		b.Run(how, func(b *testing.B) {
			url := onPostgres.url(b)
			stores, ready := make([]*sqlstore.Store, crowd), make([]chan bool, crowd)
			for i := range stores {
				stores[i], ready[i] = listening(b, url)
				if how == "looking" {
					stores[i].Wake = nil
				}
			}
			spaces, watches := attend(b, "space", stores)
			for _, r := range ready {
				if how == "hearing" {
					require.True(b, <-r)
				}
			}
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				time.Sleep(100 * time.Millisecond) // they are at rest
				b.StartTimer()
				took = append(took, seenAfter(b, spaces[0], watches)...)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
			for _, space := range spaces {
				space.Close()
			}
		})
	}
}

// seenAfter commits, and returns after how long each watch has seen it.
func seenAfter(b *testing.B, space kv.Space, watches []kv.Watch) []time.Duration {
	b.Helper()
	took := make([]time.Duration, len(watches))
	all, ctx := errgroup.WithContext(patience(b))
	began := time.Now()
	for i, w := range watches {
		all.Go(func() error {
			err := see(ctx, w, 1)
			took[i] = time.Since(began)
			return err
		})
	}
	_, err := space.Commit(ctx, kv.Tx{Put: []kv.Record{{Key: "k"}}})
	require.NoError(b, err)
	require.NoError(b, all.Wait())
	return took
}

// BenchmarkTelling has users of as many spaces commit at once, on a server that writes to
// its disk: with and without a notification in each commit, of which 50 others hear, or
// nobody.
func BenchmarkTelling(b *testing.B) {
	server := testsql.OwnPostgres(b, "-c", "fsync=on")
	for _, users := range []int{1, 8, 32} {
		for _, how := range []string{"silent", "tells nobody", "tells 50"} {
			b.Run(fmt.Sprintf("%d spaces/%s", users, how), func(b *testing.B) {
				for i := range 50 {
					if how != "tells 50" {
						break
					}
					store, hears := listening(b, server.URL())
					space, err := store.Open(patience(b), "hears")
					require.NoError(b, err)
					defer space.Close()
					require.True(b, <-hears, i)
				}
				db := testsql.Open(b, "pgx", server.URL())
				db.SetMaxIdleConns(2 * users)
				telling := sqlstore.Postgres(db)
				if how != "silent" {
					telling.Wake = func(ctx context.Context, _ sqlstore.Listening) { <-ctx.Done() }
				}
				commitAtOnce(b, telling, users)
			})
		}
	}
}

// commitAtOnce commits b.N times in all.
func commitAtOnce(b *testing.B, store *sqlstore.Store, users int) {
	b.Helper()
	var done atomic.Int64
	spaces := make([]kv.Space, users)
	for i := range spaces {
		var err error
		spaces[i], err = store.Open(patience(b), fmt.Sprint(i))
		require.NoError(b, err)
		defer spaces[i].Close()
	}
	b.ResetTimer()
	all, ctx := errgroup.WithContext(b.Context())
	for _, space := range spaces {
		all.Go(func() error {
			for done.Add(1) <= int64(b.N) {
				if _, err := space.Commit(ctx, kv.Tx{Put: []kv.Record{{Key: "k"}}}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(b, all.Wait())
	b.StopTimer()
}

// BenchmarkConnect has 50 users open two connections each, at once, as those of
// BenchmarkManyAtOnce do with a store each: one for heartbeats, and one beside the watch's. On
// PostgreSQL, which begins a process for each, that is most of what it takes.
func BenchmarkConnect(b *testing.B) {
	for _, s := range all {
		b.Run(s.name, func(b *testing.B) {
			url := s.url(b)
			for b.Loop() {
				db, err := sql.Open(s.driver, url)
				require.NoError(b, err)
				all, ctx := errgroup.WithContext(patience(b))
				conns := make([]*sql.Conn, 2*crowd) // given back only when all are there
				for i := range conns {
					all.Go(func() (err error) {
						conns[i], err = db.Conn(ctx)
						return err
					})
				}
				require.NoError(b, all.Wait())
				for _, c := range conns {
					require.NoError(b, c.Close())
				}
				require.NoError(b, db.Close())
			}
		})
	}
}
