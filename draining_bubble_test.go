package libcluster_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

func ofMode(mode libcluster.Mode) func(*libcluster.Config) {
	return func(c *libcluster.Config) { c.Mode = mode }
}

func passive(c *libcluster.Config) { c.Passive = true }

// indexes are those of all that hold any.
func (b *bubble) indexes() map[string]int {
	held := map[string]int{}
	for _, c := range b.all {
		if s := c.State(); s.Active() {
			held[c.ID()] = s.Index
		}
	}
	return held
}

// draining are the instances of which Coverage says that they drain, all of it covered.
func (b *bubble) draining(by *libcluster.Cluster) (ids []string) {
	found, err := by.Coverage(context.Background())
	require.NoError(b.T, err)
	require.True(b.T, found.Covered, found.Problems)
	for _, p := range found.Problems {
		require.Equal(b.T, libcluster.ProblemDraining, p.Kind, p)
		ids = append(ids, p.ID)
	}
	return ids
}

func TestAnInstanceThatAnOperatorDrainsHoldsNothingUntilItIsUndrained(t *testing.T) {
	for _, mode := range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				ctx := context.Background()
				a, second := b.member("a", ofMode(mode)), b.member("b", ofMode(mode))
				b.member("c", ofMode(mode))
				operator := b.member("operator", ofMode(mode), passive)
				require.Equal(b.T, map[string]int{"a": 0, "b": 1, "c": 2}, b.indexes())

				require.NoError(b.T, operator.Drain(ctx, "a"))
				require.NoError(b.T, operator.Drain(ctx, "a"), "twice is no error")
				wait(time.Second)
				require.Equal(b.T, map[string]int{"b": 1, "c": 0}, b.indexes())
				require.Equal(b.T, libcluster.PhaseWaiting, a.Phase())
				require.ErrorIs(b.T, a.Err(), libcluster.ErrDrained)
				require.ErrorIs(b.T, a.Err(), libcluster.ErrWaiting)
				require.Equal(b.T, []string{"a"}, b.draining(operator))

				require.NoError(b.T, a.Leave(ctx))
				b.joins(a) // and Join returns, though there is nothing for it
				require.Equal(b.T, map[string]int{"b": 1, "c": 0}, b.indexes(), "another incarnation is drained too")

				require.NoError(b.T, second.SetDraining(ctx, true))
				wait(time.Second)
				require.Equal(b.T, map[string]int{"c": 0}, b.indexes())
				require.Equal(b.T, []string{"a", "b"}, b.draining(operator))
				require.NoError(b.T, operator.Drain(ctx, "c"))
				wait(time.Second)
				require.Len(b.T, b.indexes(), 3, "all drain, and so none does")
				require.NoError(b.T, operator.Undrain(ctx, "c"))
				wait(time.Second)
				require.Equal(b.T, map[string]int{"c": 0}, b.indexes())

				require.NoError(b.T, operator.Undrain(ctx, "a"))
				require.NoError(b.T, operator.Undrain(ctx, "a"), "twice is no error")
				require.NoError(b.T, second.SetDraining(ctx, false))
				wait(time.Second)
				require.Len(b.T, b.indexes(), 3)
				require.NoError(b.T, a.Err())
				require.Empty(b.T, b.draining(operator))
			})
		})
	}
}

func TestAnOperatorDrainsPartitionsAndNoOtherPartitionStops(t *testing.T) {
	inLedger(t, func(l *ledger) {
		l.runs("a", 12)
		b := l.runs("b", 12)
		c := l.runs("c", 12)
		l.starts()
		require.NoError(l.T, c.Drain(context.Background(), "b"))
		wait(time.Second)
		require.Equal(l.T, map[string]int{"a": 2, "c": 2}, l.starts())
		require.ErrorIs(l.T, b.Err(), libcluster.ErrDrained)
		require.Equal(l.T, []string{"b"}, l.draining(c))
		require.NoError(l.T, c.Undrain(context.Background(), "b"))
		wait(time.Second)
		require.Equal(l.T, map[string]int{"b": 4}, l.starts())
	})
}

// In exclusive mode the others get nothing before the drained instance has stopped.
func TestADrainedInstanceThatIsSlowToStopIsWaitedFor(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var slow atomic.Bool
		release := make(chan struct{})
		b.member("a", func(c *libcluster.Config) {
			c.OnRebalance = func(s libcluster.State) {
				if !s.Active() && slow.Load() {
					<-release
				}
			}
		})
		other := b.member("b")
		slow.Store(true)
		require.NoError(b.T, other.Drain(context.Background(), "a"))
		wait(3 * time.Second)
		require.Empty(b.T, b.indexes())
		require.Equal(b.T, "a", other.Blockers()[0].ID)
		close(release)
		wait(time.Second)
		require.Equal(b.T, map[string]int{"b": 0}, b.indexes())
	})
}

func TestADrainedInstanceOfModeDirectLeavesAndComesBack(t *testing.T) {
	inBubble(t, func(b *bubble) {
		ctx := context.Background()
		a, other := b.member("a", ofMode(libcluster.ModeDirect)), b.member("b", ofMode(libcluster.ModeDirect))
		require.NoError(b.T, other.Drain(ctx, "a"))
		wait(time.Second)
		require.Equal(b.T, map[string]int{"b": 0}, b.indexes())
		require.Equal(b.T, 1, other.State().Total)
		require.ErrorIs(b.T, a.Err(), libcluster.ErrDrained)
		require.Equal(b.T, libcluster.PhaseWaiting, a.Phase())
		require.EqualValues(b.T, 1, a.Stats().Fences[libcluster.FencedDrained])
		require.Equal(b.T, []string{"a"}, b.draining(other))

		var begun atomic.Int32
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpOpen {
				begun.Add(1)
			}
			return call.Send(ctx)
		})
		wait(time.Minute)
		b.Intercept(nil)
		require.Zero(b.T, begun.Load(), "it only looks whether it may join again")

		require.NoError(b.T, other.Undrain(ctx, "a"))
		wait(2 * time.Second)
		require.Equal(b.T, map[string]int{"a": 0, "b": 1}, b.indexes())
		require.NoError(b.T, a.Err())
	})
}

func TestADrainedInstanceOfModeDirectDoesNotJoin(t *testing.T) {
	inBubble(t, func(b *bubble) {
		other := b.member("b", ofMode(libcluster.ModeDirect))
		require.NoError(b.T, other.Drain(context.Background(), "a"))
		before := b.Counts().Writes
		a := b.instance("a", ofMode(libcluster.ModeDirect))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.ErrorIs(b.T, a.Join(ctx), libcluster.ErrDrained)
		require.Equal(b.T, 1, other.State().Total)
		require.Equal(b.T, before, b.Counts().Writes, "its record was never there")
	})
}

func TestThatAnInstanceDrainsIsNoTroubleToLog(t *testing.T) {
	inBubble(t, func(b *bubble) {
		core, logs := observer.New(zap.InfoLevel)
		logged := func(c *libcluster.Config) { c.Logger = zap.New(core) }
		b.member("a", logged)
		require.NoError(b.T, b.member("b", logged).Drain(context.Background(), "a"))
		wait(time.Second)
		logs.TakeAll()
		wait(10 * time.Minute)
		require.Empty(b.T, logs.All())
	})
}

func TestADrainedInstanceGivesUpWhereItIsToldTo(t *testing.T) {
	inBubble(t, func(b *bubble) {
		other := b.member("b", ofMode(libcluster.ModeDirect))
		a := b.instance("a", ofMode(libcluster.ModeDirect), func(c *libcluster.Config) { c.GiveUpAfter = 10 * time.Second })
		ended := make(chan error, 1)
		go func() {
			ended <- a.Run(context.Background(), func(ctx context.Context, _ libcluster.State) error {
				<-ctx.Done()
				return nil
			})
		}()
		wait(time.Second)
		require.NoError(b.T, other.Drain(context.Background(), "a"))
		err := <-ended
		require.ErrorIs(b.T, err, libcluster.ErrGivenUp)
		require.ErrorIs(b.T, err, libcluster.ErrDrained)
	})
}

func TestDrainSaysWhatItCannotDo(t *testing.T) {
	inBubble(t, func(b *bubble) {
		ctx := context.Background()
		c := b.instance("a")
		require.ErrorIs(b.T, c.Drain(ctx, "a"), libcluster.ErrLeft)
		b.joins(c)
		for _, id := range []string{"", "a/b", strings.Repeat("x", 1000)} {
			require.ErrorContains(b.T, c.Drain(ctx, id), "ID")
		}
		b.Cut("a")
		require.Error(b.T, c.Drain(ctx, "a"))
		b.HealAll()

		direct := b.instance("d", ofMode(libcluster.ModeDirect))
		require.ErrorContains(b.T, direct.SetDraining(ctx, true), "use Leave")
		static, err := libcluster.New(libcluster.Config{
			Key: "mailer", ID: "s", Registry: libcluster.Static(0, 1),
		})
		require.NoError(b.T, err)
		require.NoError(b.T, static.Join(ctx))
		require.ErrorIs(b.T, static.Drain(ctx, "s"), libcluster.ErrCannotPlan)
		require.NoError(b.T, static.Leave(ctx))
	})
}
