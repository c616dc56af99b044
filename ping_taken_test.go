package libcluster_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
	"github.com/libcluster/libcluster/libclustertest"
)

func TestTakenInstanceIsToldAndDoesNotFight(t *testing.T) {
	inMemory(t, func(t *memory) {
		watcher := t.join("w")
		older := t.join("a", workers(2))
		start := time.Now()
		newer := t.join("a", workers(3))
		require.ErrorIs(t, older.Err(), libcluster.ErrInstanceTaken)
		require.Equal(t, "0/3 -1/1", older.story())
		require.Equal(t, start, older.last().at, "told at once")
		require.Equal(t, "0/4", newer.place())
		for range 60 {
			wait(time.Minute)
			require.ErrorIs(t, older.Err(), libcluster.ErrInstanceTaken, "it does not rejoin")
			require.Equal(t, "0/4", newer.place())
		}
		require.NoError(t, older.SetWorkers(t.Context(), 9))
		require.NoError(t, older.Leave(t.Context()))
		wait(time.Minute)
		require.Equal(t, "0/4", newer.place(), "what the older one does is no more the newer one's concern")
		require.Equal(t, "3/4", watcher.place())
		require.Equal(t, "0/4", newer.story())

		// Only joining again takes it back, for then somebody wants that.
		require.NoError(t, older.Join(t.Context()))
		synctest.Wait()
		require.ErrorIs(t, newer.Err(), libcluster.ErrInstanceTaken)
		require.Equal(t, "0/10", older.place())
	})
}

func TestTakenInstanceStaysOutWhenItsIDIsFreeAgain(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpJoin {
				return errors.New("not now")
			}
			return call.Send(ctx)
		})
		t.Steal(cluster, "a")
		wait(time.Minute)
		require.Empty(t, t.Members(cluster), "the instance that took it is gone")
		t.Intercept(nil)
		wait(time.Hour)
		require.ErrorIs(t, a.Err(), libcluster.ErrInstanceTaken)
		require.Empty(t, t.Members(cluster))
		require.Equal(t, "0/1 -1/0", a.story())
	})
}

// A join that took so long that it is renewed first, and by then somebody else has
// joined with that ID. The renewal tells so, or fails, and then the next attempt to join.
func TestInstanceTakenDuringItsFirstJoinDoesNotFight(t *testing.T) {
	for _, trouble := range []error{nil, errors.New("no leader")} {
		inMemory(t, func(t *memory) {
			var joins, renewals atomic.Int32
			t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
				if call.Op == libclustertest.OpRenew && renewals.Add(1) == 1 && trouble != nil {
					return trouble
				}
				err := call.Send(ctx)
				if call.Op == libclustertest.OpJoin && err == nil && joins.Add(1) == 1 {
					time.Sleep(2 * time.Second)
				}
				return err
			})
			older := t.app("a", workers(2))
			joined := make(chan error, 1)
			go func() { joined <- older.Join(t.within(time.Minute)) }()
			wait(time.Second)
			newer := t.join("a", workers(3))
			require.ErrorIs(t, <-joined, libcluster.ErrInstanceTaken)
			wait(time.Minute)
			require.NoError(t, newer.Err())
			require.Equal(t, "0/3", newer.story())
			require.Empty(t, older.story())
		})
	}
}

// open opens a session, without anything above it that would act by itself.
func (w *memory) open(id string, n int) libcluster.Session {
	w.Helper()
	session, _, err := between.Join(w.Context(), w, libcluster.Registration{
		Key: "mailer", Env: "production", TTL: 10 * time.Second, Member: libcluster.Member{ID: id, Workers: n},
	})
	require.NoError(w, err)
	w.Cleanup(func() { _ = session.Close() })
	return session
}

// An instance is cut off, another is started in its stead with the same ID, and
// then the first comes back.
func TestInstanceThatWasReplacedWhileCutOffDoesNotTakeItsIDBack(t *testing.T) {
	for _, outage := range []time.Duration{7 * time.Second, time.Hour} { // the lease is alive still, or gone
		inMemory(t, func(t *memory) {
			watcher := t.join("w")
			older := t.join("a", workers(2))
			t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
				if call.ID == "a" {
					return gone(ctx)
				}
				return call.Send(ctx)
			})
			t.Put(cluster, "b", []byte("1")) // ends the Next that was not intercepted
			wait(outage)
			require.False(t, older.State().Active())
			require.ErrorIs(t, older.Err(), libcluster.ErrDeadlinePassed)
			t.Intercept(nil)
			successor := t.open("a", 3)
			for range 10 { // an attempt to join that has begun before takes up to 20 s
				wait(rejoinsWithin)
				_, err := successor.Renew(t.Context())
				require.NoError(t, err)
			}
			require.ErrorIs(t, older.Err(), libcluster.ErrInstanceTaken)
			require.Equal(t, "4/5", watcher.place())
		})
	}
}
