package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

func TestWorkersSetWhileJoinedArePublishedAtOnce(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, b := t.join("a"), t.join("b")
		start := time.Now()
		require.NoError(t, a.SetWorkers(t.Context(), 5))
		require.Equal(t, 5, t.Members(cluster)[0].Workers, "SetWorkers returns when the registry has it")
		synctest.Wait()
		require.Equal(t, "0/6", a.place())
		require.Equal(t, "5/6", b.place())
		require.Equal(t, start, b.last().at)
		require.Equal(t, 5, a.last().Workers)
		require.Equal(t, "0/1 0/2 0/6", a.story())
	})
}

func TestWorkersSetBeforeJoiningArePublishedOnJoining(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.app("a")
		require.NoError(t, a.SetWorkers(t.Context(), 5))
		require.NoError(t, a.Join(t.Context()))
		require.Equal(t, "0/5", a.story())
		require.NoError(t, a.Leave(t.Context()))
	})
}

func TestWorkersSetWhileCutArePublishedAfterHealing(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, b := t.join("a"), t.join("b")
		t.Cut("a")
		require.ErrorIs(t, a.SetWorkers(t.within(time.Second), 3), context.DeadlineExceeded)
		require.Equal(t, "1/2", b.place())
		t.Heal("a")
		wait(rejoinsWithin)
		require.Equal(t, "0/4", a.place(), "within the window: the place was kept")
		require.Equal(t, "3/4", b.place())
		require.Equal(t, "0/1 0/2 0/4", a.story())
	})
}

func TestWorkersSetWhileFencedArePublishedOnRejoining(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, b := t.join("a"), t.join("b")
		t.Cut("a")
		wait(time.Hour)
		require.NoError(t, a.SetWorkers(t.within(time.Second), 3))
		wait(time.Minute) // an attempt that is under way has the old count
		t.Heal("a")
		wait(rejoinsWithin)
		require.Equal(t, "0/4", a.place())
		require.Equal(t, "3/4", b.place())
		require.Equal(t, "0/1 0/2 -1/1 0/4", a.story())
	})
}

func TestWorkersOutOfRangeAreRefused(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		t.join("b", workers(10))
		for _, n := range []int{0, -1, libcluster.MaxWorkers + 1, libcluster.MaxWorkers - 9} {
			var wrong *libcluster.ConfigError
			require.ErrorAs(t, a.SetWorkers(t.Context(), n), &wrong, "%d workers", n)
			require.Equal(t, "Workers", wrong.Field)
		}
		require.NoError(t, a.SetWorkers(t.Context(), libcluster.MaxWorkers-10), "the most that there is room for")
	})
}

// An update that fails has not been published for all we know, and what was not
// published is published later without anybody asking again.
func TestUpdateThatFailsIsTriedAgain(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		down := errors.New("the registry is down")
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpUpdate {
				return down
			}
			return call.Send(ctx)
		})
		require.ErrorIs(t, a.SetWorkers(t.Context(), 3), down)
		require.Equal(t, "0/1", a.place())
		t.Intercept(nil)
		wait(rejoinsWithin)
		require.Equal(t, "0/3", a.place())
	})
}

// With a TTL of minutes the next heartbeat is far away.
func TestUpdateThatFailsDoesNotWaitForTheNextHeartbeat(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a", ttl(5*time.Minute))
		wait(time.Hour)
		down := errors.New("the registry is down")
		var tries atomic.Int32
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op != libclustertest.OpUpdate {
				return call.Send(ctx)
			}
			tries.Add(1)
			return down
		})
		require.ErrorIs(t, a.SetWorkers(t.Context(), 3), down)
		wait(20 * time.Second)
		require.Greater(t, tries.Load(), int32(15))
		// By their backoff, calls that are each given up after 5 s send 13 requests at most.
		require.LessOrEqual(t, tries.Load(), int32(5*13))
		t.Intercept(nil)
		wait(2 * time.Second) // the session waits for a second at most, and its caller for another one
		require.Equal(t, "0/3", a.place())
	})
}

func TestLatestOfManyWorkerCountsWins(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		for n := range 50 {
			go func() { _ = a.SetWorkers(t.Context(), 2+n) }()
		}
		synctest.Wait()
		require.NoError(t, a.SetWorkers(t.Context(), 77))
		wait(rejoinsWithin)
		require.Equal(t, "0/77", a.place())
		require.Equal(t, 77, t.Members(cluster)[0].Workers)
	})
}

func TestATotalThatIsTooLargeShiftsNobody(t *testing.T) {
	inMemory(t, func(w *memory) {
		b := w.join("b")
		w.Put(cluster, "a", []byte("2147483647"))
		wait(time.Second)
		require.Equal(t, "0/1", b.place())
		require.Len(t, b.told(), 1)
		c := w.app("c")
		require.ErrorContains(t, c.Join(w.within(time.Minute)), "at most 2147483647")
		w.Delete(cluster, "a")
		d := w.join("d")
		require.Equal(t, []string{"0/2", "1/2"}, []string{b.place(), d.place()})
	})
}

func TestAnAbsurdCountLeavesWhatReadersSeeInAgreement(t *testing.T) {
	inMemory(t, func(w *memory) {
		b, d := w.join("b", workers(2)), w.join("d", workers(3))
		w.Put(cluster, "a", []byte("2147483647"))
		wait(time.Second)
		agree := func(total int, want ...string) {
			t.Helper()
			for _, x := range []*application{b, d} {
				require.Equal(t, total, x.State().Total)
				var places []string
				for _, p := range x.Members() {
					places = append(places, fmt.Sprintf("%s %d+%d", p.ID, p.Index, p.Workers))
				}
				require.Equal(t, want, places)
				for _, key := range []string{"x", "y", "z"} {
					owner, known := x.OwnerOf(key)
					require.True(t, known)
					require.Equal(t, b.State().Owns(key), owner.ID == "b")
					require.Equal(t, d.State().Owns(key), owner.ID == "d")
				}
			}
		}
		agree(5, "b 0+2", "d 2+3")
		require.NoError(t, d.SetWorkers(w.Context(), 4))
		wait(time.Second)
		before := w.Counts().Writes
		wait(time.Minute)
		require.Equal(t, before, w.Counts().Writes, "what is published is not written again")
		agree(5, "b 0+2", "d 2+3")
		w.Delete(cluster, "a")
		wait(time.Second)
		agree(6, "b 0+2", "d 2+4")
	})
}
