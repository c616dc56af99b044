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

// standstill looks at everybody's State until an instance is active, and returns for how
// long any of these was not, and how long it took.
func (b *bubble) standstill(these []*libcluster.Cluster, until *libcluster.Cluster) (stood, took time.Duration) {
	const look = 5 * time.Millisecond
	for began := time.Now(); !until.State().Active() && time.Since(began) < 2*time.Minute; {
		b.neverTwo(look)
		took = time.Since(began)
		for _, c := range these {
			if !c.State().Active() {
				stood += look
				break
			}
		}
	}
	return stood, took
}

// killed has the registry hear no more of an instance, which acts until its deadline.
func (b *bubble) killed(c *libcluster.Cluster) { b.Cut(c.ID()) }

func TestOthersWorkOnWhenOneIsKilledAndAnotherComes(t *testing.T) {
	for victim := range 4 {
		t.Run([]string{"the coordinator", "second", "third", "last"}[victim], func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var others []*libcluster.Cluster
				var dead *libcluster.Cluster
				for i, id := range []string{"a", "b", "c", "d"} {
					if c := b.member(id); i == victim {
						dead = c
					} else {
						others = append(others, c)
					}
				}
				wait(20 * time.Second)
				b.killed(dead)
				wait(time.Second)
				e := b.instance("e")
				go e.Join(context.Background())
				stood, took := b.standstill(others, e)
				t.Logf("the others stood still for %v of the %v until the newcomer was active", stood, took)
				require.Less(t, stood, 2200*time.Millisecond, "a third of the window, until it may be dead")
				require.Less(t, took, 20*time.Second, "its record lives for 10 s, and 7.75 s later it must have stopped")
				require.Equal(t, 4, e.State().Total)
			})
		})
	}
}

// A plan has all stop, and one of those that are to stop vanishes.
func TestOthersWorkOnWhenOneVanishesWhileAllStop(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a, c := b.member("a"), b.member("c")
		x := b.member("x", func(cfg *libcluster.Config) { cfg.OnRebalance = func(libcluster.State) { time.Sleep(3 * time.Second) } })
		wait(20 * time.Second)
		e := b.instance("e")
		go e.Join(context.Background())
		wait(1500 * time.Millisecond)
		require.False(t, a.State().Active(), "all stop")
		b.Cut("x")
		require.True(t, b.Expire(simulated, "x"))
		wait(time.Second)
		require.True(t, a.State().Active(), "x has vanished, and may act for a while")
		require.Equal(t, 3, a.State().Total)
		stood, took := b.standstill([]*libcluster.Cluster{a, c}, e)
		t.Logf("the others stood still for %v of the %v until the newcomer was active", stood, took)
		require.Less(t, stood, 100*time.Millisecond)
		require.InDelta(t, 6.75, took.Seconds(), 0.5)
		require.False(t, x.State().Active())
	})
}

// One that takes long to stop says that it lives, and so nobody starts again meanwhile.
func TestOneThatTakesLongToStopIsNotTakenForDead(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var told atomic.Int32
		a := b.member("a", func(c *libcluster.Config) {
			c.OnRebalance = func(libcluster.State) { told.Add(1) }
		})
		b.member("slow", func(c *libcluster.Config) {
			c.OnRebalance = func(s libcluster.State) {
				if !s.Active() {
					time.Sleep(20 * time.Second)
				}
			}
		})
		wait(20 * time.Second)
		before := told.Load()
		x := b.member("x")
		require.True(t, x.State().Active())
		require.Equal(t, before+2, told.Load(), "a is told to stop, and once to start")
		require.Equal(t, 3, a.State().Total)
	})
}

// One that is there and never says anything, neither of the plan nor that it lives, is
// doubted once: a newcomer is not kept out by that.
func TestOneThatIsThereAndSaysNothingIsDoubtedOnce(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a := b.member("a")
		b.member("m")
		wait(20 * time.Second)
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.ID == "m" && (call.Op == libclustertest.OpAcknowledge || call.Op == libclustertest.OpUpdate) {
				return errDown
			}
			return call.Send(ctx)
		})
		e := b.instance("e")
		go e.Join(context.Background())
		wait(5 * time.Second)
		require.True(t, a.State().Active())
		wait(10 * time.Second)
		require.False(t, a.State().Active())
		require.Len(t, a.Blockers(), 1)
		b.Intercept(nil)
		wait(5 * time.Second)
		require.True(t, a.State().Active())
		require.True(t, e.State().Active())
	})
}
