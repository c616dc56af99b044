package libcluster_test

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// happened is what is not zero in a map of counters.
func happened[K ~string](counts map[K]uint64) map[K]uint64 {
	counts = maps.Clone(counts)
	maps.DeleteFunc(counts, func(_ K, n uint64) bool { return n == 0 })
	return counts
}

// stopsSlowly has an instance's application take a while to stop.
func stopsSlowly(d time.Duration) func(*libcluster.Config) {
	return func(c *libcluster.Config) {
		c.OnRebalance = func(s libcluster.State) {
			if !s.Active() {
				time.Sleep(d)
			}
		}
	}
}

func TestEachStateThatTheApplicationGetsIsARebalance(t *testing.T) {
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive, libcluster.ModeCooperative} {
		t.Run(mode.String(), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var calls atomic.Uint64
				a := b.member("a", in(mode), func(c *libcluster.Config) { c.OnRebalance = func(libcluster.State) { calls.Add(1) } })
				z := b.member("z", in(mode)) // has no callback
				require.NoError(b.T, a.SetWorkers(b.T.Context(), 3))
				wait(5 * time.Second)
				b.Cut("a")
				wait(time.Minute)
				b.Heal("a")
				wait(time.Minute)
				require.Greater(b.T, calls.Load(), uint64(3))
				require.Equal(b.T, calls.Load(), a.Stats().Rebalances)
				require.NotZero(b.T, z.Stats().Rebalances)
				require.NoError(b.T, a.Leave(b.T.Context()))
				require.Equal(b.T, calls.Load(), a.Stats().Rebalances, "and so is the last")
			})
		})
	}
}

func TestFencesAreCountedOnceByTheirReason(t *testing.T) {
	down := func(b *bubble) { b.Cut("a") }
	for reason, c := range map[libcluster.FenceReason]struct {
		fence func(b *bubble)
		does  func(*libcluster.Config)
	}{
		libcluster.FencedDeadline: {fence: down},
		libcluster.FencedGone:     {fence: func(b *bubble) { b.Expire(simulated, "a") }},
		libcluster.FencedTaken:    {fence: func(b *bubble) { b.Steal(simulated, "a") }},
		libcluster.FencedReset: {fence: func(b *bubble) {
			snapshot := b.Snapshot()
			b.member("another")
			wait(time.Second)
			b.Restore(snapshot)
		}},
		libcluster.FencedStuck: {
			fence: func(b *bubble) { _ = b.instance("another").Join(b.T.Context()) },
			does: func(c *libcluster.Config) {
				stopsSlowly(20 * time.Second)(c)
				c.DrainTimeout = 5 * time.Second
			},
		},
	} {
		t.Run(string(reason), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				b.member("x")
				does := func(*libcluster.Config) {}
				if c.does != nil {
					does = c.does
				}
				a := b.member("a", does)
				wait(time.Minute)
				require.Empty(b.T, happened(a.Stats().Fences))
				c.fence(b)
				wait(40 * time.Second)
				require.Equal(b.T, map[libcluster.FenceReason]uint64{reason: 1}, happened(a.Stats().Fences))
				require.Len(b.T, a.Stats().Fences, 7, "all are there from the start")
				b.HealAll()
				wait(time.Minute)
				rejoins := uint64(1)
				if reason == libcluster.FencedTaken {
					rejoins = 0
				}
				require.Equal(b.T, rejoins, a.Stats().Rejoins)
			})
		})
	}
	t.Run("mode", func(t *testing.T) {
		inBubble(t, func(b *bubble) {
			direct := in(libcluster.ModeDirect)
			a := b.member("a", direct)
			b.Cut("a")
			wait(30 * time.Second)
			x := b.member("x", in(libcluster.ModePlanned))
			b.Heal("a")
			wait(5 * time.Second)
			require.Equal(b.T, map[libcluster.FenceReason]uint64{libcluster.FencedDeadline: 1, libcluster.FencedMode: 1}, happened(a.Stats().Fences))
			require.EqualValues(b.T, 1, a.Stats().Rejoins)
			_ = x.Leave(b.T.Context())
		})
	})
}

func TestLeavingIsNoFenceAndNeitherIsAJoinThatFails(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a := b.member("a", in(libcluster.ModeDirect))
		require.NoError(b.T, a.Leave(b.T.Context()))
		wait(time.Minute)
		require.False(b.T, a.State().Active(), "which looks at the clock, long after the deadline")
		refused := b.instance("r", in(libcluster.ModePlanned))
		other := b.member("b", in(libcluster.ModeDirect))
		require.Error(b.T, refused.Join(b.T.Context()))
		b.CutAll()
		late := b.instance("late")
		ctx, cancel := context.WithTimeout(b.T.Context(), time.Minute)
		defer cancel()
		require.Error(b.T, late.Join(ctx))
		for _, c := range []*libcluster.Cluster{a, refused, late} {
			require.Empty(b.T, happened(c.Stats().Fences), c.ID())
			require.Zero(b.T, c.Stats().Rejoins)
			require.False(b.T, c.Stats().HasDeadline)
		}
		require.NotEmpty(b.T, happened(other.Stats().Fences))
		require.NotZero(b.T, late.Stats().RegistryErrors[libcluster.RegistryJoin])
	})
}

func TestRenewalsAreCountedWithWhatTheyTook(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpRenew {
				time.Sleep(30 * time.Millisecond)
			}
			return call.Send(ctx)
		})
		a := b.member("a", in(libcluster.ModeDirect))
		wait(10 * time.Minute)
		h := a.Stats().Renewals
		require.EqualValues(b.T, b.Counts().Renewals, h.Count)
		require.Equal(b.T, time.Duration(h.Count)*30*time.Millisecond, h.Sum)
		require.Len(b.T, h.Counts, len(h.Bounds)+1)
		at := slices.Index(h.Bounds, 50*time.Millisecond)
		require.Equal(b.T, h.Count, h.Counts[at], "more than 25 and up to 50 ms")
	})
}

func TestFailedCallsOfTheRegistryAreCountedByWhatTheyAreFor(t *testing.T) {
	joins := func(b *bubble, _ *libcluster.Cluster) { go b.instance("z").Join(b.T.Context()) }
	for op, c := range map[libcluster.RegistryOp]struct {
		fails libclustertest.Op
		cause func(b *bubble, a *libcluster.Cluster)
	}{
		libcluster.RegistryRenew:       {fails: libclustertest.OpRenew},
		libcluster.RegistryWatch:       {libclustertest.OpNext, joins},
		libcluster.RegistryCoordinate:  {libclustertest.OpSurvey, joins},
		libcluster.RegistryJoin:        {libclustertest.OpJoin, func(b *bubble, _ *libcluster.Cluster) { b.Expire(simulated, "a") }},
		libcluster.RegistryAcknowledge: {libclustertest.OpAcknowledge, joins},
		libcluster.RegistryPublish:     {libclustertest.OpUpdate, func(b *bubble, a *libcluster.Cluster) { _ = a.SetWorkers(b.T.Context(), 2) }},
		libcluster.RegistryLook:        {libclustertest.OpLook, func(b *bubble, a *libcluster.Cluster) { _, _ = a.Coverage(b.T.Context()) }},
		libcluster.RegistryLeave:       {libclustertest.OpLeave, func(b *bubble, a *libcluster.Cluster) { _ = a.Leave(b.T.Context()) }},
	} {
		t.Run(string(op), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				a := b.member("a")
				wait(time.Second)
				b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
					if call.ID == "a" && call.Op == c.fails {
						return errDown
					}
					return call.Send(ctx)
				})
				require.Empty(b.T, happened(a.Stats().RegistryErrors))
				require.Len(b.T, a.Stats().RegistryErrors, 8, "all are there from the start")
				if c.cause != nil {
					c.cause(b, a)
				}
				wait(3 * time.Second)
				found := happened(a.Stats().RegistryErrors)
				require.NotZero(b.T, found[op])
				delete(found, op)
				require.Empty(b.T, found, "and by nothing else")
			})
		})
	}
}

func TestRenewalsThatHangAreErrorsBeforeTheFence(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a := b.member("a", in(libcluster.ModeDirect))
		wait(time.Minute)
		b.CutAll()
		for a.Stats().RegistryErrors[libcluster.RegistryRenew] == 0 {
			require.True(b.T, a.State().Active())
			wait(10 * time.Millisecond)
		}
		require.True(b.T, a.State().Active())
	})
}

func TestDeadlineIsCountedDownUntilTheFence(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a := b.instance("a", in(libcluster.ModeDirect))
		require.False(b.T, a.Stats().HasDeadline)
		b.joins(a)
		wait(time.Minute)
		require.True(b.T, a.Stats().HasDeadline)
		b.CutAll()
		left := a.Stats().UntilDeadline
		require.Equal(b.T, time.Until(a.State().Deadline), left)
		wait(time.Second)
		require.Equal(b.T, left-time.Second, a.Stats().UntilDeadline)
		wait(left)
		require.Zero(b.T, a.Stats().UntilDeadline)
		require.True(b.T, a.Stats().HasDeadline)

		keeps := b.instance("k", in(libcluster.ModeDirect), func(c *libcluster.Config) { c.Outage = libcluster.KeepOnOutage })
		alone := b.instance("s", in(libcluster.ModeDirect), func(c *libcluster.Config) { c.Registry = libcluster.Static(0, 1) })
		b.HealAll()
		for _, c := range []*libcluster.Cluster{keeps, alone} {
			b.joins(c)
			require.False(b.T, c.Stats().HasDeadline, c.ID())
		}
		require.Zero(b.T, alone.Stats().Renewals.Count)
		require.Zero(b.T, alone.Stats().Coverage)
	})
}

// By its own clock the window is over before the first heartbeat is due.
func TestDeadlineThatHasPassedUnnoticedIsNoNegativeTime(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a := b.instance("a", in(libcluster.ModeDirect))
		a.SetClockRate(5)
		b.joins(a)
		wait(libcluster.Window(libcluster.DefaultTTL)/5 + 20*time.Millisecond)
		s := a.Stats()
		require.True(b.T, s.HasDeadline)
		require.Zero(b.T, s.UntilDeadline)
		require.Empty(b.T, happened(s.Fences), "nobody has looked")
	})
}

// handOvers is how many hand-overs all instances have counted since the start, and how long
// they took.
func (b *bubble) handOvers() (graceful, crash libcluster.Histogram) {
	for _, c := range b.all {
		s := c.Stats()
		graceful.Count += s.HandOvers.Count
		graceful.Sum += s.HandOvers.Sum
		crash.Count += s.CrashHandOvers.Count
		crash.Sum += s.CrashHandOvers.Sum
	}
	return graceful, crash
}

func TestHandOversAreCountedOnceWithWhatTheyTook(t *testing.T) {
	const stops = 2 * time.Second
	for _, mode := range []libcluster.Mode{libcluster.ModeExclusive, libcluster.ModeCooperative} {
		t.Run(mode.String(), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				slow := func(c *libcluster.Config) {
					in(mode)(c)
					if mode == libcluster.ModeCooperative {
						c.OnRevoked = func([]libcluster.Partition) { time.Sleep(stops) }
					} else {
						stopsSlowly(stops)(c)
					}
				}
				b.member("a", slow)
				graceful, crash := b.handOvers()
				require.EqualValues(b.T, 1, graceful.Count, "the first plan")
				require.Zero(b.T, graceful.Sum, "for which nobody has to stop")
				b.member("b", slow)
				wait(time.Minute)
				graceful, crash = b.handOvers()
				require.EqualValues(b.T, 2, graceful.Count)
				require.InDelta(b.T, stops.Seconds(), graceful.Sum.Seconds(), 0.3, "as long as a takes to stop")
				require.Zero(b.T, crash.Count)

				b.Cut("b")
				b.Expire(simulated, "b")
				wait(time.Minute)
				_, crash = b.handOvers()
				require.EqualValues(b.T, 1, crash.Count)
				over := libcluster.UntilOver(libcluster.Window(libcluster.DefaultTTL))
				if mode == libcluster.ModeExclusive {
					over += stops // then a stops, to get another total
				}
				require.InDelta(b.T, over.Seconds(), crash.Sum.Seconds(), 0.3)
				b.Heal("b")
				wait(time.Minute)
				again, _ := b.handOvers()
				require.EqualValues(b.T, 3, again.Count, "it is back")
			})
		})
	}
}

// While old places are given anew, since one may be dead, the change goes on.
func TestHandOverIsNotOverWhenTheOldAssignmentsAreGivenAnew(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.member("a")
		b.member("b")
		wait(time.Minute)
		graceful, _ := b.handOvers()
		b.Cut("b") // nobody knows yet
		go b.instance("c").Join(b.T.Context())
		wait(5 * time.Second)
		require.True(b.T, b.all[0].State().Active(), "in its old place")
		now, crash := b.handOvers()
		require.Equal(b.T, graceful.Count, now.Count)
		require.Zero(b.T, crash.Count)
		wait(time.Minute)
		now, crash = b.handOvers()
		require.Equal(b.T, graceful.Count, now.Count)
		require.EqualValues(b.T, 1, crash.Count)
		require.Greater(b.T, crash.Sum, 10*time.Second, "from when c came")
	})
}

func TestNobodyWaitsAndSoThereAreNoHandOvers(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned} {
			key := func(c *libcluster.Config) { c.Key = mode.String() }
			b.member("a", in(mode), key)
			b.member("b", in(mode), key)
		}
		wait(time.Minute)
		graceful, crash := b.handOvers()
		require.Zero(b.T, graceful.Count+crash.Count)
	})
}

func TestCoverageIsKnownWithoutAsking(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a := b.member("a", in(libcluster.ModeDirect))
		require.Zero(b.T, a.Stats().Coverage)
		wait(10 * time.Second)
		seen := a.Stats().Coverage
		require.True(b.T, seen.Covered)
		require.Less(b.T, time.Since(seen.At), libcluster.DefaultTTL/5)
		reads := b.Counts().Reads
		b.Put(simulated, "b", []byte("1")) // an orphan
		wait(10 * time.Second)
		require.False(b.T, a.Stats().Coverage.Covered)
		require.Equal(b.T, reads, b.Counts().Reads, "nobody has read for it")
		b.Delete(simulated, "b")
	})
	inBubble(t, func(b *bubble) {
		a, other := b.member("a"), b.member("b")
		wait(10 * time.Minute)
		require.True(b.T, a.Stats().Coverage.Covered)
		require.LessOrEqual(b.T, time.Since(a.Stats().Coverage.At), libcluster.DefaultTTL/2, "the coordinator looks")
		require.Zero(b.T, other.Stats().Coverage)
	})
}

func TestStatsBelongToTheCaller(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a := b.member("a")
		wait(time.Minute)
		s := a.Stats()
		require.NotZero(b.T, s.Renewals.Counts[0])
		s.Fences[libcluster.FencedGone]++
		s.RegistryErrors[libcluster.RegistryJoin]++
		s.Renewals.Counts[0], s.Renewals.Bounds[0] = 0, 0
		s.HandOvers.Counts[0] = 100
		now := a.Stats()
		require.Empty(b.T, happened(now.Fences))
		require.Empty(b.T, happened(now.RegistryErrors))
		require.NotZero(b.T, now.Renewals.Counts[0])
		require.NotZero(b.T, now.Renewals.Bounds[0])
		require.EqualValues(b.T, 1, now.HandOvers.Counts[0])
	})
}
