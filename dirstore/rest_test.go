package dirstore_test

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
)

// rest has instances renew and watch as they do while nothing happens. What each call of files has
// come to is told.
func rest(t *testing.T, dir string, instances int, network bool, did func(call, name string, err error)) {
	t.Helper()
	const ttl = 10 * time.Second
	for range instances {
		store := dirstore.Dir(dir)
		store.Network = network
		store.Around(func(call, name string, do func() error) error {
			err := do()
			did(call, name, err)
			return err
		})
		space := open(t, store)
		owner := begin(t, space, ttl)
		w, err := space.Watch(t.Context(), "", 0)
		require.NoError(t, err)
		t.Cleanup(w.Close)
		go func() {
			for err == nil {
				_, err = w.Next(t.Context())
			}
		}()
		go func() {
			for t.Context().Err() == nil {
				_, _ = space.Renew(t.Context(), owner)
				_, _, _ = space.Get(t.Context(), "k")
				select {
				case <-time.After(ttl / 7):
				case <-t.Context().Done():
				}
			}
		}()
	}
	time.Sleep(2 * ttl) // until all have seen that all renew
}

func TestAtRestEachLeaseIsReadByOne(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	synctest.Test(t, func(t *testing.T) {
		const instances, seconds = 12, 20
		var reads atomic.Int64
		rest(t, dir, instances, false, func(call, name string, _ error) {
			if call == "read" && strings.HasPrefix(name, "space/h.") {
				reads.Add(1)
			}
		})
		reads.Store(0)
		time.Sleep(seconds * time.Second)
		const looks = 16 * seconds / 10 // sixteen in a TTL
		require.Positive(t, reads.Load())
		require.LessOrEqual(t, reads.Load(), int64(instances*looks*3/2))
	})
}

// systemCalls is how many each call of files makes on Linux, if it fails with nothing.
var systemCalls = map[string]int64{"read": 4, "overwrite": 7, "write": 9, "link": 1, "modified": 1, "remove": 1, "sync": 7}

// TestWhatInstancesDoAtRest counts, and holds the documentation to it.
func TestWhatInstancesDoAtRest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		instances      int
		network        bool
		calls, written float64 // each second, by each instance, at most
	}{
		{1, false, 70, 100}, {10, false, 70, 100}, {1, true, 70, 1000}, {10, true, 250, 2000},
	} {
		dir := shm(t)
		synctest.Test(t, func(t *testing.T) {
			var calls, written atomic.Int64
			rest(t, dir, c.instances, c.network, func(call, name string, err error) {
				if err != nil {
					calls.Add(1)
					return
				}
				calls.Add(systemCalls[call])
				if info, err := os.Stat(dir + "/" + name); err == nil && (call == "overwrite" || call == "write") {
					written.Add(info.Size())
				}
			})
			calls.Store(0)
			written.Store(0)
			const seconds = 60
			time.Sleep(seconds * time.Second)
			each := func(n int64) float64 { return float64(n) / seconds / float64(c.instances) }
			what := fmt.Sprintf("%d instances, network %v: %.1f system calls and %.0f bytes written a second by each",
				c.instances, c.network, each(calls.Load()), each(written.Load()))
			t.Log(what)
			require.LessOrEqual(t, each(calls.Load()), c.calls, what)
			require.LessOrEqual(t, each(written.Load()), c.written, what)
		})
	}
}
