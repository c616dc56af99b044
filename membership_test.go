package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

func TestLeavingCallsBackALastTimeAndThenRemovesTheRecord(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, b := t.join("a", workers(2)), t.join("b", workers(3))
		start := time.Now()
		a.inCallback(func(s libcluster.State) {
			if s.Active() {
				return
			}
			for range 60 { // the application winds down
				time.Sleep(time.Second)
				assert.True(t, t.Holds(cluster, "a"), "the record stays, and is renewed, until the callback returns")
				assert.False(t, a.State().Active())
				assert.Equal(t, "2/5", b.place())
			}
		})
		require.NoError(t, a.Leave(t.Context()))
		require.Equal(t, time.Minute, time.Since(start))
		require.False(t, t.Holds(cluster, "a"))
		require.Equal(t, "0/2 0/5 -1/3", a.story(), "the last callback has the total of those who stay")
		synctest.Wait()
		require.Equal(t, "0/3", b.place())
		require.Equal(t, time.Minute, b.last().at.Sub(start), "the others are told at once, not after the TTL")
		require.ErrorIs(t, a.Err(), libcluster.ErrLeft)
	})
}

func TestLeaveEndsWithinItsDeadlineWhenTheRegistryHangs(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, b := t.join("a"), t.join("b")
		t.Cut("a")
		start := time.Now()
		err := a.Leave(t.within(3 * time.Second))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "stays until it expires")
		require.LessOrEqual(t, time.Since(start), 3*time.Second)
		require.Equal(t, "0/1 0/2 -1/1", a.story(), "the application is told nevertheless, and first")
		require.Equal(t, start, a.last().at)
		wait(libcluster.DefaultTTL)
		require.Equal(t, "0/1", b.place())

		t.Heal("a")
		require.NoError(t, a.Join(t.Context()), "who could not leave properly can join again")
	})
}

func TestLeaveEndsByItselfWhenTheRegistryHangs(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		t.CutAll()
		start := time.Now()
		require.Error(t, a.Leave(context.Background()))
		require.LessOrEqual(t, time.Since(start), 10*time.Second, "Leave without a deadline has one of its own")
	})
}

func TestLeaveEndsSoonAfterItsContextWhenTheRegistryDoesNotHeedIt(t *testing.T) {
	const soon = 250 * time.Millisecond
	for _, m := range allModes {
		for op, ops := range map[string][]libclustertest.Op{
			"the record": {libclustertest.OpLeave, libclustertest.OpEnd}, "the plan": {libclustertest.OpSwap}, "all": nil,
		} {
			t.Run(fmt.Sprint(m, " ", op), func(t *testing.T) {
				inMemory(t, func(t *memory) {
					leave := func(ctx context.Context, most time.Duration) {
						a := t.join("a", mode(m))
						t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
							if ops == nil || slices.Contains(ops, call.Op) {
								wait(time.Minute)
							}
							return call.Send(ctx)
						})
						start := time.Now()
						_ = a.Leave(ctx)
						require.LessOrEqual(t, time.Since(start), most)
						require.Equal(t, libcluster.PhaseLeft, a.Phase())
						t.Intercept(nil)
						wait(2 * time.Minute)
						require.Empty(t, t.Members(cluster))
					}
					leave(t.within(3*time.Second), 3*time.Second+soon)
					leave(context.Background(), 10*time.Second+2*soon)
				})
			})
		}
	}
}

// What is to move was revoked, and OnRebalance is not told of that, since the instance leaves. An
// application that goes by OnRebalance acts on it until it has been told index -1.
func TestNothingMovesBeforeOnRebalanceHasReturnedThoughTheInstanceLeavesMeanwhile(t *testing.T) {
	inMemory(t, func(t *memory) {
		revoking := make(chan struct{})
		b := t.app("b", mode(libcluster.ModeCooperative))
		var early []libcluster.State
		a := t.join("a", mode(libcluster.ModeCooperative), func(c *libcluster.Config) {
			c.OnRevoked = func(lost []libcluster.Partition) {
				if len(lost) < 16 && revoking != nil {
					close(revoking)
					revoking = nil
					wait(3 * time.Second)
				}
			}
		})
		a.inCallback(func(s libcluster.State) {
			if !s.Active() {
				wait(3 * time.Second)
				early = append(early, b.State())
			}
		})
		revoked := revoking
		go func() { _ = b.Join(t.Context()) }()
		<-revoked
		require.NoError(t, a.Leave(t.within(time.Minute)))
		require.Len(t, early, 1)
		require.False(t, early[0].Active(), "%+v", early)
		wait(time.Minute)
		require.Equal(t, "0/16", b.place())
		require.NoError(t, b.Leave(t.Context()))
	})
}

func TestLeaveEndsWithinItsDeadlineWhenACallbackHangs(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		returns := make(chan struct{})
		a.inCallback(func(libcluster.State) { <-returns })
		start := time.Now()
		err := a.Leave(t.within(3 * time.Second))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "a callback has not returned")
		require.LessOrEqual(t, time.Since(start), 3*time.Second+500*time.Millisecond)
		require.ErrorIs(t, a.Err(), libcluster.ErrLeft)
		require.Equal(t, "-1/0", a.place())
		wait(libcluster.DefaultTTL)
		require.Empty(t, t.Members(cluster), "nobody renews the record of an instance that has left")

		// Joining again does not call back while that callback still runs.
		joined := make(chan error, 1)
		go func() { joined <- a.Join(t.Context()) }()
		wait(time.Minute)
		require.Empty(t, joined)
		require.Equal(t, "0/1 -1/0", a.story())
		a.inCallback(nil)
		close(returns)
		require.NoError(t, <-joined)
		require.Equal(t, "0/1 -1/0 0/1", a.story())
	})
}

func TestLeaveWhileJoiningEndsTheJoin(t *testing.T) {
	inMemory(t, func(t *memory) {
		t.CutAll()
		a := t.app("a")
		joined := make(chan error, 1)
		go func() { joined <- a.Join(context.Background()) }()
		wait(time.Minute)
		start := time.Now()
		require.NoError(t, a.Leave(t.Context()))
		require.ErrorIs(t, <-joined, libcluster.ErrLeft)
		require.LessOrEqual(t, time.Since(start), time.Second)
		t.HealAll()
		wait(time.Minute)
		require.Empty(t, t.Members(cluster))
		require.Empty(t, a.told())
	})
}

func TestLeaveDuringTheFirstCallbackEndsTheJoin(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.app("a")
		a.inCallback(func(libcluster.State) { time.Sleep(10 * time.Second) })
		joined := make(chan error, 1)
		go func() { joined <- a.Join(context.Background()) }()
		wait(time.Second)
		require.NoError(t, a.Leave(t.Context()))
		require.ErrorIs(t, <-joined, libcluster.ErrLeft)
		require.Equal(t, "0/1 -1/0", a.story(), "the place that was told is taken back")
		require.Empty(t, t.Members(cluster))
	})
}

func TestJoinTwiceIsRefused(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		require.ErrorIs(t, a.Join(t.Context()), libcluster.ErrJoined)
		require.Equal(t, "0/1", a.place(), "and changes nothing")
	})
}

func TestLeaveTwiceWaitsForTheFirst(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		a.inCallback(func(libcluster.State) { time.Sleep(time.Minute) })
		start := time.Now()
		var leaving sync.WaitGroup
		for range 3 {
			leaving.Go(func() {
				assert.NoError(t, a.Leave(t.Context()))
				assert.Equal(t, time.Minute, time.Since(start))
			})
		}
		time.Sleep(time.Second)
		require.ErrorIs(t, a.Leave(t.within(time.Second)), context.DeadlineExceeded, "but not longer than its context")
		leaving.Wait()
		require.NoError(t, a.Leave(t.Context()), "having left already")
		require.Equal(t, "0/1 -1/0", a.story())
	})
}

func TestLeaveWithoutJoinDoesNothing(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.app("a")
		require.NoError(t, a.Leave(t.Context()))
		require.NoError(t, a.Leave(t.Context()))
		require.NoError(t, a.Join(t.Context()))
		require.NoError(t, a.Leave(t.Context()))
		require.Equal(t, "0/1 -1/0", a.story())
	})
}

func TestJoinAgainAfterLeaving(t *testing.T) {
	inMemory(t, func(t *memory) {
		b := t.join("b")
		a := t.app("a")
		generation := int64(0)
		for range 5 {
			require.NoError(t, a.Join(t.Context()))
			require.Equal(t, "0/2", a.place())
			require.Greater(t, a.State().Generation, generation)
			generation = a.State().Generation
			require.NoError(t, a.Leave(t.Context()))
			synctest.Wait()
			require.Equal(t, "0/1", b.place())
		}
		require.Equal(t, "0/2 -1/1 0/2 -1/1 0/2 -1/1 0/2 -1/1 0/2 -1/1", a.story())
	})
}

func TestNothingIsLeftBehindAfterLeave(t *testing.T) {
	inMemory(t, func(t *memory) {
		var apps []*application
		for n := range 20 {
			apps = append(apps, t.join(fmt.Sprint(n)))
		}
		var leaving sync.WaitGroup
		for _, a := range apps {
			leaving.Go(func() { assert.NoError(t, a.Leave(t.Context())) })
		}
		leaving.Wait()
		require.Empty(t, t.Members(cluster))
		revision, renewals := t.Revision(cluster), t.Counts().Renewals
		wait(time.Hour)
		require.Equal(t, revision, t.Revision(cluster), "no record, and no lease that would take one away")
		require.Equal(t, renewals, t.Counts().Renewals)
		// That no goroutine is left the bubble itself checks when it ends.
	})
}

// useAtOnce has eight goroutines use each of a few clusters twenty times, in no order at
// all, while the registry takes its time. use is told which cluster, which goroutine and
// which time it is.
func (w *memory) useAtOnce(clusters int, use func(n, m, k int)) {
	w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
		time.Sleep(time.Duration(len(call.Op)) * time.Millisecond)
		return call.Send(ctx)
	})
	var acting sync.WaitGroup
	for n := range clusters {
		for m := range 8 {
			acting.Go(func() {
				for k := range 20 {
					use(n, m, k)
				}
			})
		}
	}
	acting.Wait()
}

// What matters is that it ends, that callbacks stay one at a time and that nothing is
// left.
func TestEverythingAtOnceEndsCleanly(t *testing.T) {
	inMemory(t, func(t *memory) {
		apps := []*application{t.app("a"), t.app("b"), t.app("c")}
		for _, a := range apps {
			a.inCallback(func(libcluster.State) { time.Sleep(7 * time.Millisecond) })
		}
		t.useAtOnce(len(apps), func(n, m, k int) {
			a := apps[n]
			ctx := t.within(time.Duration(1+(n+m+k)%50) * time.Millisecond)
			switch (n + m*k) % 4 {
			case 0, 1:
				_ = a.Join(ctx)
			case 2:
				_ = a.SetWorkers(ctx, 1+k%3)
			default:
				_ = a.Leave(ctx)
			}
			_, _ = a.State(), a.Members()
		})
		for _, a := range apps {
			require.NoError(t, a.Leave(t.Context()))
			a.told() // fails if callbacks overlapped
		}
		wait(libcluster.DefaultTTL)
		require.Empty(t, t.Members(cluster))
	})
}

func TestErrorOfTheRegistryOnLeavingIsReturned(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		down := errors.New("the registry is down")
		t.Intercept(func(context.Context, libclustertest.Call) error { return down })
		require.ErrorIs(t, a.Leave(t.Context()), down)
		require.Equal(t, "0/1 -1/0", a.story())
	})
}

// An attempt to rejoin has made a record and come to nothing; leaving removes that too.
func TestLeavingRemovesWhatAFailedAttemptToRejoinHasRecorded(t *testing.T) {
	inMemory(t, func(w *memory) {
		a := w.join("a")
		joins := 0
		w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			switch call.Op {
			case libclustertest.OpJoin:
				if joins++; joins > 1 {
					return errors.New("the registry is down")
				}
				time.Sleep(3 * time.Second) // so long that the deadline has to be earned anew
			case libclustertest.OpRenew:
				return gone(ctx)
			}
			return call.Send(ctx)
		})
		w.Expire(cluster, "a")
		wait(6 * time.Second)
		require.True(t, w.Holds(cluster, "a"))
		require.False(t, a.State().Active())
		require.NoError(t, a.Leave(w.within(time.Minute)))
		require.False(t, w.Holds(cluster, "a"))
	})
}

// The record says that the place is kept by the same write by which it stays, not by
// one before that may hang or fail.
func TestAssignmentIsKeptThoughTheRecordCannotBeUpdated(t *testing.T) {
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				of := func(c *libcluster.Config) { c.Mode = mode }
				a, b := w.join("a", of), w.join("b", of)
				wait(0)
				told, place := len(b.told()), b.State()
				require.Equal(w, 1, place.Index)
				w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
					if call.Op == libclustertest.OpUpdate {
						<-ctx.Done()
						return context.Cause(ctx)
					}
					return call.Send(ctx)
				})
				start := time.Now()
				require.NoError(w, a.Leave(w.Context(), libcluster.Returning(time.Minute)))
				require.Zero(w, time.Since(start))
				wait(50 * time.Second)
				require.True(w, w.Holds(cluster, "a"))
				require.Len(w, b.told(), told, "nobody else is called back")
				require.Equal(w, place.Index, b.State().Index)
				wait(20 * time.Second)
				require.Equal(w, 1, b.State().Total)
			})
		})
	}
}
