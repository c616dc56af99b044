package libcluster_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

func TestOneWhoMeetsAPlanFromBeforeRejoinsOnceAndMakesAnother(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a := b.member("a")
		before := b.Plan(simulated)
		x := b.member("x")
		generation := a.State().Generation
		var joins atomic.Int32
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpJoin && joins.Load() > 100 {
				return errDown // or virtual time would stand still
			}
			err := call.Send(ctx)
			if call.Op == libclustertest.OpJoin && err == nil {
				joins.Add(1)
			}
			return err
		})
		b.PutPlan(simulated, before)
		b.Depose(simulated)
		wait(time.Minute)
		require.LessOrEqual(t, joins.Load(), int32(2))
		require.True(t, a.State().Active())
		require.True(t, x.State().Active())
		require.Greater(t, a.State().Generation, generation)
	})
}

func TestNobodyIsWaitedForWhenWhatSaysSoWasLostOrLate(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var lost atomic.Bool
		released := make(chan struct{})
		a := b.member("a", func(c *libcluster.Config) {
			c.OnRebalance = func(s libcluster.State) {
				if !s.Active() {
					<-released
				}
			}
		})
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			err := call.Send(ctx)
			if call.Op == libclustertest.OpClaim && lost.CompareAndSwap(false, true) {
				close(released)
				time.AfterFunc(5*time.Second, func() { _ = call.Send(context.Background()) })
				return errReset
			}
			return err
		})
		x := b.member("x")
		wait(10 * time.Second)
		require.True(t, lost.Load())
		require.True(t, a.State().Active())
		require.True(t, x.State().Active())
		require.Empty(t, x.Blockers())
	})
}

func TestOneWhoIsTheCoordinatorWithoutKnowingItLearnsOfIt(t *testing.T) {
	for what, lose := range map[string]func(*bubble, context.Context, libclustertest.Call) error{
		"the answer was lost": func(_ *bubble, ctx context.Context, call libclustertest.Call) error {
			_ = call.Send(ctx)
			return errReset
		},
		"the request was late": func(b *bubble, _ context.Context, call libclustertest.Call) error {
			time.AfterFunc(3*time.Second, func() {
				// Who has coordinated meanwhile has just gone.
				b.Cut("y")
				b.Expire(simulated, "y")
				_ = call.Send(context.Background())
			})
			return errReset
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				a, x := b.member("a"), b.member("x")
				b.member("y")
				var lost atomic.Bool
				b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
					if call.Op == libclustertest.OpClaim && call.ID == "x" && lost.CompareAndSwap(false, true) {
						return lose(b, ctx, call)
					}
					return call.Send(ctx)
				})
				b.Cut("a")
				b.Expire(simulated, "a")
				wait(time.Minute)
				require.True(t, lost.Load())
				require.False(t, a.State().Active())
				require.True(t, x.State().Active())
				require.Equal(t, len(b.Members(simulated)), x.State().Total)
				b.HealAll()
				wait(time.Minute)
				require.Equal(t, 3, x.State().Total)
				require.True(t, a.State().Active())
			})
		})
	}
}

// apart has two members whose clocks are as far apart as they may be: that of b, who
// is about to vanish, is slow.
func apart(b *bubble) (a, slow *libcluster.Cluster) {
	a, slow = b.instance("a"), b.instance("b")
	a.SetClockRate(1.1)
	slow.SetClockRate(0.9)
	b.joins(a)
	b.joins(slow)
	return a, slow
}

// neverTwoUntilAlone looks at everybody's State until the one who vanished must have
// been given up.
func (b *bubble) neverTwoUntilAlone(a, vanished *libcluster.Cluster) {
	b.Helper()
	b.neverTwo(20 * time.Second)
	require.Equal(b.T, 1, a.State().Total)
	require.False(b.T, vanished.State().Active())
}

func TestOneWhoVanishedIsWaitedForByClocksThatDiffer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a, slow := apart(b)
		var once atomic.Bool
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			err := call.Send(ctx)
			if call.Op == libclustertest.OpRenew && call.ID == "b" && once.CompareAndSwap(false, true) {
				time.AfterFunc(1, func() { // when the answer is there
					b.Cut("b")
					b.Expire(simulated, "b")
				})
			}
			return err
		})
		b.neverTwoUntilAlone(a, slow)
		require.True(t, once.Load())
	})
}

func TestTheDeadlineCountsFromTheSendingOfARenewal(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var begun, once atomic.Bool
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			err := call.Send(ctx)
			switch {
			case call.ID != "b" || !begun.Load():
			case call.Op == libclustertest.OpNext:
				<-ctx.Done() // it does not hear of the end of its record
				return context.Cause(ctx)
			case call.Op == libclustertest.OpRenew && once.CompareAndSwap(false, true):
				b.Expire(simulated, "b")
				time.Sleep(950 * time.Millisecond) // the answer comes just before it is given up
				time.AfterFunc(1, func() { b.Cut("b") })
			}
			return err
		})
		a, slow := apart(b)
		begun.Store(true)
		b.neverTwoUntilAlone(a, slow)
		require.True(t, once.Load())
	})
}

func TestALateSuccessRevivesNobody(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a, x := b.member("a"), b.member("x")
		var once atomic.Bool
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.ID == "x" && call.Op == libclustertest.OpJoin {
				time.Sleep(50 * time.Millisecond) // c is there first, so the next plan is of all three
			}
			err := call.Send(ctx)
			switch {
			case call.ID != "x":
			case call.Op == libclustertest.OpRenew && once.CompareAndSwap(false, true):
				// Its record goes, and it learns of that before the answer comes.
				b.Expire(simulated, "x")
				time.Sleep(100 * time.Millisecond)
				go b.joins(b.instance("c"))
			case call.Op == libclustertest.OpJoin:
				time.Sleep(3 * time.Second) // until it knows the new plan
			}
			return err
		})
		b.neverTwo(20 * time.Second)
		require.True(t, once.Load())
		require.Equal(t, 3, a.State().Total)
		require.True(t, x.State().Active())
	})
}

func TestAReservedAssignmentHoldsNobodyUp(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a, x := b.member("a"), b.member("x")
		require.NoError(t, x.Leave(context.Background(), libcluster.Returning(time.Hour)))
		wait(time.Second)
		c := b.member("c")
		wait(time.Second)
		require.Equal(t, 0, a.State().Index)
		require.Equal(t, 2, c.State().Index)
		require.Equal(t, 3, c.State().Total)
		b.joins(x)
		require.Equal(t, 1, x.State().Index)
	})
}

func TestOneWhoComesWhenAllHaveLeftIsNotHeldUp(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for range 3 {
			start := time.Now()
			c := b.member("a")
			require.Less(t, time.Since(start), 100*time.Millisecond)
			require.NoError(t, c.Leave(context.Background()))
		}
	})
}
