package libcluster_test

import (
	"context"
	"math"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
	"github.com/libcluster/libcluster/libclustertest"
)

// becomesActive waits until an instance is, and returns after how long.
func becomesActive(c *libcluster.Cluster) time.Duration {
	began := time.Now()
	for !c.State().Active() && time.Since(began) < time.Minute {
		wait(10 * time.Millisecond)
	}
	return time.Since(began)
}

// Who rejoins has stopped in all that it was before, and says so of all.
func TestOneWhoRejoinsIsNotWaitedForHoweverOftenItWasLost(t *testing.T) {
	t.Run("the answer to rejoining is lost", func(t *testing.T) {
		inBubble(t, func(b *bubble) {
			b.member("x")
			a := b.member("a")
			wait(time.Second)
			var once atomic.Bool
			b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
				err := call.Send(ctx)
				if call.ID == "a" && call.Op == libclustertest.OpJoin && once.CompareAndSwap(false, true) {
					return errReset
				}
				return err
			})
			b.Expire(simulated, "a")
			wait(10 * time.Millisecond)
			require.Less(t, becomesActive(a), time.Second)
		})
	})
	t.Run("two losses in a row before the coordinator looks", func(t *testing.T) {
		inBubble(t, func(b *bubble) {
			b.member("x") // coordinates
			a := b.member("a")
			wait(time.Second)
			b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
				if call.ID == "x" && call.Op == libclustertest.OpSurvey {
					time.Sleep(2500 * time.Millisecond)
				}
				return call.Send(ctx)
			})
			wait(6 * time.Second) // the survey that had begun is over
			b.Expire(simulated, "a")
			wait(2 * time.Second) // a heartbeat has told, and it is back
			require.True(t, b.Expire(simulated, "a"))
			require.Less(t, becomesActive(a), libcluster.UntilOver(libcluster.Window(libcluster.DefaultTTL)))
		})
	})
}

// Nobody can know who else may act, by a plan that the store has forgotten.
func TestAfterTheStoreHasGoneBackAllWaitUntilAnybodyHasStopped(t *testing.T) {
	for _, what := range []string{"a backup", "nothing"} {
		inBubble(t, func(b *bubble) {
			a := b.member("a")
			wait(time.Second)
			var before libclustertest.Snapshot
			if what == "a backup" {
				before = b.Snapshot()
			}
			x := b.member("x")
			wait(time.Second)
			b.Restore(before)
			wait(10 * time.Millisecond)
			require.False(t, a.State().Active(), what)
			require.InDelta(t, 7.75, becomesActive(a).Seconds(), 0.5, what)
			wait(10 * time.Millisecond)
			require.True(t, x.State().Active(), what)
		})
	}
}

func TestOneWhoFindsAnotherModeWhenItIsBackAsksNowAndAgain(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.member("a")
		b.Cut("a")
		wait(time.Second)
		b.Expire(simulated, "a")
		b.joins(b.instance("d", func(c *libcluster.Config) { c.Mode = libcluster.ModeDirect }))
		wait(10 * time.Second)
		var joins atomic.Int32
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpJoin && joins.Add(1) > 1000 {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return call.Send(ctx)
		})
		b.Heal("a")
		wait(10 * time.Second)
		require.Positive(t, joins.Load())
		require.Less(t, joins.Load(), int32(40))
	})
}

// The record is older than what the one that rejoins has written, as in a backup. But its instance
// acts, and no plan of the other mode would wait for it.
func TestOneWhoRejoinsARestoredStoreReplacesNobodyOfAnotherMode(t *testing.T) {
	inBubble(t, func(b *bubble) {
		released := make(chan struct{})
		before := b.member("a", func(c *libcluster.Config) {
			c.Mode = libcluster.ModeCooperative
			c.OnRebalance = func(s libcluster.State) {
				if !s.Active() {
					<-released
				}
			}
		})
		for n := range 20 { // so that what it has written is late, by the restored store's count
			require.NoError(t, before.SetWorkers(context.Background(), 2+n))
		}
		b.Restore(libclustertest.Snapshot{})
		wait(time.Second)
		after := b.member("a")
		require.True(t, after.State().Active())
		close(released)
		wait(time.Minute)
		require.True(t, after.State().Active(), after.Err())
		require.False(t, before.State().Active())
		require.NoError(t, after.Leave(context.Background()))
		require.LessOrEqual(t, becomesActive(before), 20*time.Second)
	})
}

func TestAForeignGenerationDoesNotBecomeEverybodys(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a := b.member("a")
		b.member("x")
		wait(time.Second)
		b.PutPlan(simulated, "exclusive\tcommit\t"+strconv.Itoa(math.MaxInt64-2)+"\t0\n")
		b.Put(simulated, "s", []byte(`{"workers":1,"mode":"exclusive","seen":`+strconv.Itoa(math.MaxInt64)+`}`))
		wait(30 * time.Second)
		b.member("y")
		wait(time.Second)
		require.Equal(t, 3, a.State().Total, b.Plan(simulated))
	})
}

func TestOneForWhomThereIsNoRoomIsRefused(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.member("a", func(c *libcluster.Config) { c.Workers = libcluster.MaxWorkers })
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.ErrorContains(t, b.instance("x").Join(ctx), "at most 2147483647")
	})
}

func TestOneWhoGivesUpJoiningSaysForWhomItHasWaited(t *testing.T) {
	inBubble(t, func(b *bubble) {
		released := make(chan struct{})
		b.member("slow", func(c *libcluster.Config) {
			c.OnRebalance = func(s libcluster.State) {
				if !s.Active() {
					<-released
				}
			}
		})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := b.instance("x").Join(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, libcluster.ErrWaiting)
		require.ErrorContains(t, err, "wait for slow to stop")
		close(released)
	})
}

func TestGenerationsGoOnFromThoseBeforeWhileAPlanIsLost(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a := b.member("a")
		b.member("x")
		wait(time.Second)
		before := a.State()
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpSwap {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return call.Send(ctx)
		})
		b.PutPlan(simulated, "")
		b.Expire(simulated, "a")
		for range 1000 {
			wait(time.Millisecond)
			require.GreaterOrEqual(t, a.State().Generation, before.Generation)
		}
		b.Intercept(nil)
	})
}

type plainSession struct{ libcluster.Session }

// The registry says that it can plan, and its sessions cannot.
func TestARegistryThatCannotPlanIsRefusedAlsoWhileLeaving(t *testing.T) {
	inBubble(t, func(b *bubble) {
		joined, goOn := make(chan struct{}), make(chan struct{})
		p := between.Registry{Registry: b.Registry, Joining: func(ctx context.Context, m libcluster.Member, below libcluster.Membership,
		) (libcluster.Session, time.Duration, error) {
			s, ttl, err := below.Join(ctx, m)
			close(joined)
			<-goOn
			return plainSession{s}, ttl, err
		}}
		c, err := libcluster.New(libcluster.Config{Key: "mailer", ID: "a", Registry: p, Mode: libcluster.ModeExclusive})
		require.NoError(t, err)
		left := make(chan error, 1)
		go func() {
			<-joined
			go func() { left <- c.Leave(context.Background()) }()
			time.Sleep(50 * time.Millisecond) // by the bubble's clock: until it leaves
			close(goOn)
		}()
		require.Error(t, c.Join(context.Background()))
		require.NoError(t, <-left)
	})
}
