package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// rejoinsWithin is how soon after the registry answers again everybody is back.
const rejoinsWithin = 2 * time.Second

func TestFencedMemberRejoinsSoonAfterHealing(t *testing.T) {
	for range 50 {
		inMemory(t, func(t *memory) {
			a, b := t.join("a"), t.join("b")
			wait(rand.N(time.Minute))
			t.Cut("a")
			outage := time.Minute + rand.N(10*time.Minute)
			wait(outage)
			require.ErrorIs(t, a.Err(), libcluster.ErrDeadlinePassed)
			require.Equal(t, "0/1", b.place())
			t.Heal("a")
			wait(rejoinsWithin)
			require.Equal(t, "0/2", a.place(), "after %v of outage", outage)
			require.NoError(t, a.Err())
			require.Equal(t, "0/1 0/2 -1/1 0/2", a.story())
			require.Equal(t, "1/2 0/1 1/2", b.story(), "the ID is the same, and so is the position")
		})
	}
}

func TestRejoiningBeforeTheTTLCallsNobodyElse(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, b, c := t.join("a", workers(2)), t.join("b"), t.join("c")
		wait(time.Minute)
		generation := b.State().Generation
		t.Cut("b")
		for b.State().Active() {
			wait(100 * time.Millisecond)
		}
		require.True(t, t.Holds(cluster, "b"), "fenced while its lease is alive still")
		t.Heal("b")
		wait(rejoinsWithin)
		require.Equal(t, "2/4", b.place())
		require.Equal(t, "2/3 2/4 -1/3 2/4", b.story())
		require.Equal(t, "0/2 0/3 0/4", a.story(), "whose view has not changed")
		require.Equal(t, "3/4", c.story(), "whose view has not changed")
		require.Greater(t, b.State().Generation, generation)
	})
}

func TestOutageOfTheWholeRegistryIsOutlivedByAll(t *testing.T) {
	inMemory(t, func(t *memory) {
		const instances = 30
		var apps []*application
		for n := range instances {
			apps = append(apps, t.join(fmt.Sprintf("%02d", n)))
		}
		wait(time.Minute)
		t.CutAll()
		wait(time.Hour)
		for _, a := range apps {
			require.ErrorIs(t, a.Err(), libcluster.ErrDeadlinePassed)
		}
		require.Empty(t, t.Members(cluster))
		t.HealAll()
		wait(rejoinsWithin)
		for n, a := range apps {
			require.Equal(t, fmt.Sprintf("%d/%d", n, instances), a.place())
		}
	})
}

func TestErrorsOfTheRegistryAreRetriedUntilTheyEnd(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		wait(time.Minute)
		t.Intercept(func(context.Context, libclustertest.Call) error { return errors.New("no leader") })
		wait(time.Hour)
		require.ErrorIs(t, a.Err(), libcluster.ErrDeadlinePassed)
		t.Intercept(nil)
		wait(rejoinsWithin)
		require.Equal(t, "0/1", a.place())
		require.Equal(t, "0/1 -1/0 0/1", a.story())
	})
}

// A registry that records and at once knows nothing of it, which would be asked
// without end and without a pause.
func TestRegistryThatLosesEachRecordAtOnceIsAskedEverMoreSeldom(t *testing.T) {
	for _, op := range []libclustertest.Op{libclustertest.OpNext, libclustertest.OpRenew} {
		t.Run(string(op), func(t *testing.T) {
			inMemory(t, func(t *memory) {
				const most = 200
				a := t.join("a")
				wait(time.Minute)
				var joins atomic.Int32
				t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
					switch {
					case call.Op == libclustertest.OpJoin && joins.Add(1) > most:
						return gone(ctx) // or time would stand still
					case call.Op == op:
						return libcluster.ErrRecordGone
					}
					return call.Send(ctx)
				})
				t.Expire(cluster, "a")
				wait(time.Minute)
				require.Greater(t, joins.Load(), int32(20))
				require.Less(t, joins.Load(), int32(most))
				t.Intercept(nil)
				wait(rejoinsWithin)
				require.Equal(t, "0/1", a.place())
				wait(time.Minute)
				t.Expire(cluster, "a")
				synctest.Wait()
				require.Equal(t, "0/1", a.place(), "who has lost its place once is back at once")
			})
		})
	}
}

// A permanent error ends the first Join, and nothing after it: a password that is
// wrong today may be right tomorrow.
func TestPermanentErrorDoesNotEndRejoining(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		t.Intercept(func(context.Context, libclustertest.Call) error {
			return libcluster.Permanent(errors.New("wrong password"))
		})
		wait(time.Hour)
		require.False(t, a.State().Active())
		t.Intercept(nil)
		wait(rejoinsWithin)
		require.Equal(t, "0/1", a.place())
	})
}

func TestAssignmentLostDuringASlowCallbackIsTakenBackBeforeTheNext(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a", workers(2))
		a.inCallback(func(libcluster.State) { time.Sleep(time.Minute) })
		start := time.Now()
		t.Put(cluster, "b", []byte("1")) // keeps the application busy
		wait(time.Second)
		t.Expire(cluster, "a")
		wait(rejoinsWithin)
		require.Equal(t, "0/3", a.place(), "a new incarnation, while the callback still runs")
		require.Equal(t, "0/2 0/3", a.story())
		wait(10 * time.Minute)
		require.Equal(t, "0/2 0/3 -1/1 0/3", a.story(), "the same place, and yet it was lost in between")
		require.Equal(t, time.Minute, a.told()[2].at.Sub(start))
	})
}

// The same with the slow callback having been told of a place that several
// incarnations in a row have lost.
func TestAssignmentLostManyTimesDuringASlowCallbackIsTakenBackOnce(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		a.inCallback(func(libcluster.State) { time.Sleep(time.Hour) })
		t.Put(cluster, "b", []byte("1"))
		wait(time.Second)
		for range 10 {
			t.Expire(cluster, "a")
			wait(rejoinsWithin)
			require.True(t, a.State().Active())
		}
		a.inCallback(nil)
		wait(2 * time.Hour)
		require.Equal(t, "0/1 0/2 -1/1 0/2", a.story())
	})
}

// An attempt to rejoin had its effect, but its answer was lost. The record that
// the next attempt finds is the instance's own.
func TestRejoiningWhoseAnswerWasLostDoesNotLockItselfOut(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		var lose atomic.Bool
		lose.Store(true)
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			err := call.Send(ctx)
			if call.Op == libclustertest.OpJoin && err == nil && lose.Load() {
				return gone(ctx)
			}
			return err
		})
		t.Expire(cluster, "a")
		wait(8 * time.Second)
		require.True(t, t.Holds(cluster, "a"), "an attempt has had its effect")
		lose.Store(false)
		wait(time.Minute)
		require.NoError(t, a.Err())
		require.Equal(t, "0/1 -1/0 0/1", a.story())
	})
}

// A request to join that was given up arrives after a later one has succeeded,
// and takes the record from it. It is nobody else's.
func TestJoinThatArrivesLateDoesNotLockItsInstanceOut(t *testing.T) {
	inMemory(t, func(t *memory) {
		var first atomic.Bool
		first.Store(true)
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpJoin && first.CompareAndSwap(true, false) {
				time.AfterFunc(25*time.Second, func() { _ = call.Send(context.Background()) })
				return gone(ctx)
			}
			return call.Send(ctx)
		})
		a := t.join("a")
		wait(time.Minute)
		require.NoError(t, a.Err())
		require.Equal(t, "0/1", a.story(), "the record is another by now, and the late request has no effect")
	})
}

// A registry that many ask at once is slow, and what is given up it has to do again.
func TestAnAttemptToJoinHasTwentySeconds(t *testing.T) {
	inMemory(t, func(t *memory) {
		asked := t.joinsTake(19 * time.Second)
		a := t.app("a")
		require.NoError(t, a.Join(t.within(time.Minute)))
		require.EqualValues(t, 1, asked.Load())
		require.Equal(t, "0/1", a.story())
		require.NoError(t, a.Leave(t.Context()))
	})
}

// An instance that rejoins does nothing meanwhile, and so it gives up sooner at first: it
// may be an answer that was lost.
func TestEachAttemptToRejoinHasMoreTime(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		asked := t.joinsTake(19 * time.Second)
		t.Expire(cluster, "a")
		wait(14 * time.Second)
		require.EqualValues(t, 2, asked.Load(), "after 5 s it asks again")
		wait(time.Minute)
		require.EqualValues(t, 3, asked.Load(), "and after 10")
		require.NoError(t, a.Err())
		require.Equal(t, "0/1 -1/0 0/1", a.story())
	})
}

// joinsTake has the registry answer requests to join so late, and counts them.
func (w *memory) joinsTake(d time.Duration) (asked *atomic.Int32) {
	asked = new(atomic.Int32)
	w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
		if call.Op == libclustertest.OpJoin {
			asked.Add(1)
			libcluster.Sleep(ctx, d)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return call.Send(ctx)
	})
	return asked
}

// A join that took so long that little is left of its deadline is renewed first,
// and that may fail.
func TestSlowRejoiningWhoseRenewalFailsDoesNotLockItselfOut(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		var failures atomic.Int32
		failures.Store(3)
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpJoin {
				libcluster.Sleep(ctx, 2*time.Second)
			}
			if call.Op == libclustertest.OpRenew && failures.Add(-1) >= 0 {
				return errors.New("no leader")
			}
			return call.Send(ctx)
		})
		t.Expire(cluster, "a")
		wait(time.Minute)
		require.Negative(t, failures.Load())
		require.NoError(t, a.Err())
		require.Equal(t, "0/1 -1/0 0/1", a.story())
	})
}

// The state is read when the application has time for it, not before: a place
// that was lost while an earlier callback ran is not told any more.
func TestAssignmentThatIsLostAgainMeanwhileIsNotTold(t *testing.T) {
	t.Run("while another was taken back", func(t *testing.T) {
		inMemory(t, func(t *memory) {
			a := t.join("a")
			a.inCallback(func(libcluster.State) { time.Sleep(time.Minute) })
			t.Put(cluster, "b", []byte("1"))
			wait(time.Second)
			t.Expire(cluster, "a") // lost, and back, during that callback
			wait(time.Minute)
			require.Equal(t, "0/1 0/2 -1/1", a.story())
			require.True(t, a.State().Active(), "the next place, that the application has no time for yet")
			t.CutAll()
			wait(10 * time.Minute)
			require.Equal(t, "0/1 0/2 -1/1", a.story())
			a.inCallback(nil)
		})
	})
	t.Run("while a callback of an earlier stay hung", func(t *testing.T) {
		inMemory(t, func(t *memory) {
			a := t.join("a")
			returns := make(chan struct{})
			a.inCallback(func(libcluster.State) { <-returns })
			require.Error(t, a.Leave(t.within(time.Second)))
			joined := make(chan error, 1)
			go func() { joined <- a.Join(t.Context()) }()
			wait(time.Second)
			t.CutAll()
			wait(time.Minute)
			a.inCallback(nil)
			close(returns)
			synctest.Wait()
			require.Equal(t, "0/1 -1/0", a.story())
			t.HealAll()
			require.NoError(t, <-joined)
			require.Equal(t, "0/1 -1/0 0/1", a.story())
		})
	})
}

func TestHistoryThatWasDroppedIsReadAnew(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		t.Put(cluster, "0", []byte("7"))
		synctest.Wait()
		require.Equal(t, "7/8", a.place())
		t.Cut("a")
		for n := range 5 {
			t.Put(cluster, fmt.Sprint(n), []byte("2"))
		}
		t.Delete(cluster, "0")
		t.Compact()
		wait(time.Second)
		require.Equal(t, "7/8", a.place())
		t.Heal("a")
		synctest.Wait()
		require.Equal(t, "8/9", a.place())
		require.Equal(t, "0/1 7/8 8/9", a.story())
	})
}

func TestStoreThatWentBackIsOutlivedByAll(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, b := t.join("a"), t.join("b")
		before := t.Snapshot()
		c := t.join("c")
		require.NoError(t, b.SetWorkers(t.Context(), 3))
		require.NoError(t, a.Leave(t.Context()))
		synctest.Wait()
		require.Equal(t, "0/4", b.place())
		t.Restore(before) // a is back, c has never been, b has one worker
		wait(rejoinsWithin)
		require.Equal(t, "1/5", b.place(), "with the workers that it wants, beside the ghost of a")
		require.Equal(t, "4/5", c.place())
		wait(libcluster.DefaultTTL)
		require.Equal(t, "0/4", b.place(), "nobody renews the ghost")
		require.Equal(t, "3/4", c.place())
	})
}

func TestLeavingForARestartCallsNobodyBack(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, b := t.join("a", workers(2)), t.join("b")
		require.NoError(t, a.Leave(t.Context(), libcluster.Returning(time.Minute)))
		require.Equal(t, "0/2 0/3 -1/1", a.story())
		wait(59 * time.Second)
		require.NoError(t, a.Join(t.Context()))
		wait(time.Hour)
		require.Equal(t, "0/2 0/3 -1/1 0/3", a.story())
		require.Equal(t, "2/3", b.story(), "the place was kept")

		require.NoError(t, a.Leave(t.Context(), libcluster.Returning(time.Minute)))
		start := time.Now()
		wait(time.Hour)
		require.Equal(t, "2/3 0/1", b.story(), "the place was kept until its time was up")
		require.Equal(t, time.Minute, b.last().at.Sub(start))
	})
}

func keep(c *libcluster.Config) { c.Outage = libcluster.KeepOnOutage }

func TestOutageThatIsSatOutChangesNothing(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, b := t.join("a", keep), t.join("b", keep)
		wait(time.Minute)
		t.CutAll()
		wait(8 * time.Second) // past the deadline of others
		require.Equal(t, "0/2", a.place())
		t.HealAll()
		wait(time.Minute)
		require.Equal(t, "0/1 0/2", a.story(), "the lease was alive still")

		t.CutAll()
		wait(time.Hour)
		require.Equal(t, "0/2", a.place())
		require.NoError(t, a.Err())
		require.Empty(t, t.Members(cluster))
		t.HealAll()
		wait(rejoinsWithin)
		require.Equal(t, "0/2", a.place())
		require.Equal(t, "1/2", b.place())
		require.True(t, t.Holds(cluster, "a"))
		// Which lease has ended first, and which instance is back first, is left to chance.
		require.Regexp(t, `^0/1 0/2( 0/1)*( -1/[01])+( 0/1)* 0/2$`, a.story(), "the lease was gone: fenced then, and rejoined")
	})
}

func TestPhaseTellsWhereAnInstanceStands(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.app("a")
		require.Equal(t, libcluster.PhaseLeft, a.Phase())
		t.CutAll()
		joined := make(chan error, 1)
		go func() { joined <- a.Join(t.Context()) }()
		wait(time.Minute)
		require.Equal(t, libcluster.PhaseJoining, a.Phase())
		t.HealAll()
		require.NoError(t, <-joined)
		require.Equal(t, libcluster.PhaseActive, a.Phase())
		t.CutAll()
		wait(time.Minute)
		require.Equal(t, libcluster.PhaseFenced, a.Phase())
		t.HealAll()
		wait(rejoinsWithin)
		require.Equal(t, libcluster.PhaseActive, a.Phase())
		a.inCallback(func(libcluster.State) { time.Sleep(time.Minute) })
		left := make(chan error, 1)
		go func() { left <- a.Leave(t.Context()) }()
		wait(time.Second)
		require.Equal(t, libcluster.PhaseLeaving, a.Phase())
		require.NoError(t, <-left)
		require.Equal(t, libcluster.PhaseLeft, a.Phase())
	})
}
