package dirstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/kv"
)

// An observer that is about to end a lease sleeps before it has the lease doubted, or before
// it ends it. Meanwhile the owner renews, and is told that it has.
func TestRenewalThatHasSucceededIsNotInVain(t *testing.T) {
	t.Parallel()
	for what, skip := range map[string]int{"before the doubt": 0, "before the end": 1} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			const ttl = 200 * time.Millisecond
			dir := shm(t)
			store := dirstore.Dir(dir)
			store.Poll = time.Hour // it ends nothing
			space := open(t, store)
			owner := begin(t, space, ttl)
			put(t, space, "k", "", owner)

			o := newSleeper(t, dir)
			wake := o.sleepAfter(t, skip, "link", func() {
				ctx, cancel := context.WithTimeout(context.Background(), watchdog)
				defer cancel()
				for o.awaits() && ctx.Err() == nil {
					_, _, _ = o.Get(ctx, "k")
				}
			})
			_, err := space.Renew(patience(t), owner)
			require.NoError(t, err)
			wake()
			require.NotZero(t, get(t, space, "k").Version, "the owner has been told that its lease lives")
			_, err = space.Renew(patience(t), owner)
			require.NoError(t, err)
			for ctx := patience(t); get(t, o, "k").Version != 0; { // nobody renews any more
				require.NoError(t, ctx.Err())
			}
			_, err = space.Renew(patience(t), owner)
			require.ErrorIs(t, err, kv.ErrEnded)
		})
	}
}

// at sets the times of all files of a folder.
func setTimes(t *testing.T, dir string, at time.Time) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*/*")
	require.NoError(t, err)
	for _, file := range files {
		if err := os.Chtimes(file, at, at); !os.IsNotExist(err) { // some come and go
			require.NoError(t, err)
		}
	}
}

// The times of files say when they were written by some clock, which may be any.
func TestNoClockButTheObserversEndsALease(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{time.Unix(1, 0), time.Now().Add(100 * 365 * 24 * time.Hour)} {
		dir := shm(t)
		synctest.Test(t, func(t *testing.T) {
			const ttl = time.Second
			space, observer := open(t, dirstore.Dir(dir)), open(t, dirstore.Dir(dir))
			owner := begin(t, space, ttl)
			put(t, space, "k", "", owner)
			w, err := observer.Watch(t.Context(), "k", 0)
			require.NoError(t, err)
			defer w.Close()
			for range 40 {
				_, err := space.Renew(t.Context(), owner)
				require.NoError(t, err)
				setTimes(t, dir, at)
				ctx, cancel := context.WithTimeout(t.Context(), ttl/4)
				_, err = w.Next(ctx)
				cancel()
				require.ErrorIs(t, err, context.DeadlineExceeded, "nothing changes")
			}
			start := time.Now()
			setTimes(t, dir, at)
			changes, err := w.Next(t.Context())
			require.NoError(t, err)
			require.True(t, changes.Records[0].Gone)
			require.GreaterOrEqual(t, time.Since(start), ttl*3/4)
			require.LessOrEqual(t, time.Since(start), ttl+ttl/8+2*dirstore.DefaultPoll)
		})
	}
}

func TestLoneNewcomerEndsAllTheDeadAfterOneTTL(t *testing.T) {
	t.Parallel()
	for _, network := range []bool{false, true} {
		dir := shm(t)
		synctest.Test(t, func(t *testing.T) {
			const ttl, dead = 10 * time.Second, 30
			store := func() *dirstore.Store {
				s := dirstore.Dir(dir)
				s.Network = network
				return s
			}
			for n := range dead {
				space := open(t, store())
				put(t, space, fmt.Sprint(n), "", begin(t, space, ttl))
				space.Close()
			}
			time.Sleep(time.Hour)
			start := time.Now()
			watching, links := store(), atomic.Int64{}
			watching.Around(func(call, name string, do func() error) error {
				if call == "link" && strings.HasPrefix(name, "space/s.") {
					links.Add(1)
				}
				return do()
			})
			newcomer := open(t, watching)
			w, err := newcomer.Watch(t.Context(), "", 0)
			require.NoError(t, err)
			defer w.Close()
			for gone := 0; gone < dead; {
				changes, err := w.Next(t.Context())
				require.NoError(t, err)
				gone += len(changes.Records)
			}
			require.GreaterOrEqual(t, time.Since(start), ttl)
			require.LessOrEqual(t, time.Since(start), ttl+ttl/8+2*dirstore.DefaultPoll)
			if !network { // there each reading makes one
				require.EqualValues(t, 2, links.Load(), "one doubts all, and one ends all")
			}
		})
	}
}

// An owner that has renewed a long lease may die long before the lease ends. Until then it
// watches nobody.
func TestLongLeaseHidesNoneOfTheDead(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	synctest.Test(t, func(t *testing.T) {
		const ttl = 10 * time.Second
		gone, observer := open(t, dirstore.Dir(dir)), open(t, dirstore.Dir(dir))
		begin := func(space kv.Space, owner kv.Owner, ttl time.Duration) {
			_, err := space.Begin(t.Context(), owner, ttl)
			require.NoError(t, err)
			put(t, space, fmt.Sprint(owner), "", owner)
		}
		begin(observer, 30, time.Hour)
		begin(gone, 20, 100*time.Hour)
		begin(gone, 10, ttl)
		w, err := observer.Watch(t.Context(), "10", 0)
		require.NoError(t, err)
		defer w.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err = w.Next(ctx) // it looks
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = gone.Renew(t.Context(), 20)
		require.NoError(t, err)
		gone.Close()
		start := time.Now()
		_, err = w.Next(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(start), 2*ttl)
	})
}

func TestUnreadableHeartbeatHidesNoneOfTheDead(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	synctest.Test(t, func(t *testing.T) {
		const ttl = 10 * time.Second
		store := dirstore.Dir(dir)
		store.Around(func(call, name string, do func() error) error {
			if call == "read" && name == "space/h.14" {
				return &os.PathError{Op: "open", Path: name, Err: os.ErrPermission}
			}
			return do()
		})
		gone, observer := open(t, dirstore.Dir(dir)), open(t, store)
		for _, owner := range []kv.Owner{10, 20, 30} { // they are looked at from 30 downwards
			space := gone
			if owner == 30 {
				space = observer
			}
			_, err := space.Begin(t.Context(), owner, ttl)
			require.NoError(t, err)
			put(t, space, fmt.Sprint(owner), "", owner)
		}
		gone.Close()
		w, err := observer.Watch(t.Context(), "10", 0)
		require.NoError(t, err)
		defer w.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 2*ttl) // in the bubble's time
		defer cancel()
		_, err = w.Next(ctx)
		require.NoError(t, err)
		require.NotZero(t, get(t, observer, "20").Version, "it may live")
	})
}
