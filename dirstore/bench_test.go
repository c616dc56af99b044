package dirstore_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/kv"
)

const crowd = 50

// places are where the folders of benchmarks are.
var places = []struct {
	name    string
	dir     func(b testing.TB) string
	network bool
}{
	{"disk", func(b testing.TB) string { return b.TempDir() }, false},
	{"memory", shm, false},
	{"disk as on a network", func(b testing.TB) string { return b.TempDir() }, true},
}

// everywhere runs a benchmark in each place.
func everywhere(b *testing.B, bench func(b *testing.B, store func() *dirstore.Store, dir string)) {
	b.Helper()
	for _, place := range places {
		b.Run(place.name, func(b *testing.B) {
			dir := place.dir(b)
			bench(b, func() *dirstore.Store {
				store := dirstore.Dir(dir)
				store.Network = place.network
				return store
			}, dir)
		})
	}
}

func swaps(b *testing.B) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "swaps/s")
}

// BenchmarkSwaps has one user swap one record.
func BenchmarkSwaps(b *testing.B) {
	everywhere(b, func(b *testing.B, store func() *dirstore.Store, _ string) {
		space := open(b, store())
		for b.Loop() {
			require.NoError(b, putting(space, "k", "v"))
		}
		swaps(b)
	})
}

// BenchmarkSwapsOfFourProcesses has four processes read and swap one record.
func BenchmarkSwapsOfFourProcesses(b *testing.B) {
	for _, place := range places[:2] {
		b.Run(place.name, func(b *testing.B) {
			dir := place.dir(b)
			var all []*process
			for range 4 {
				all = append(all, start(b, role{Dir: dir, Keep: 1024, Times: (b.N + 3) / 4, Only: true}))
			}
			for _, p := range all {
				p.counted(b)
				require.NoError(b, p.Wait())
			}
			swaps(b)
		})
	}
}

// BenchmarkManyAtOnce has 50 users begin a lease each and write a record under it, until
// all have seen all.
func BenchmarkManyAtOnce(b *testing.B) {
	everywhere(b, func(b *testing.B, store func() *dirstore.Store, _ string) {
		for n := range b.N {
			b.StopTimer()
			spaces, watches := attend(b, fmt.Sprint(n), store)
			b.StartTimer()
			all, ctx := errgroup.WithContext(patience(b))
			for i, space := range spaces {
				all.Go(func() error {
					owner := randomOwner()
					if _, err := space.Begin(ctx, owner, time.Hour); err != nil {
						return err
					}
					_, err := space.Commit(ctx, kv.Tx{Put: []kv.Record{{Key: strconv.Itoa(i), Owner: owner}}})
					return err
				})
				all.Go(func() error { return see(ctx, watches[i], crowd) })
			}
			require.NoError(b, all.Wait())
		}
	})
}

// attend opens a space by a store each, with a watch.
func attend(b *testing.B, name string, store func() *dirstore.Store) (spaces []kv.Space, watches []kv.Watch) {
	b.Helper()
	for range crowd {
		space, err := store().Open(patience(b), name)
		require.NoError(b, err)
		b.Cleanup(func() { space.Close() })
		w, err := space.Watch(patience(b), "", 0)
		require.NoError(b, err)
		spaces, watches = append(spaces, space), append(watches, w)
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

// BenchmarkOneIsSeen has 50 watches see one commit.
func BenchmarkOneIsSeen(b *testing.B) {
	everywhere(b, func(b *testing.B, store func() *dirstore.Store, _ string) {
		spaces, watches := attend(b, "space", store)
		for b.Loop() {
			all, ctx := errgroup.WithContext(patience(b))
			for _, w := range watches {
				all.Go(func() error { return see(ctx, w, 1) })
			}
			require.NoError(b, putting(spaces[0], "k", ""))
			require.NoError(b, all.Wait())
		}
	})
}
