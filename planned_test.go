package libcluster_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
	"github.com/libcluster/libcluster/libclustertest"
)

func mode(m libcluster.Mode) func(*libcluster.Config) {
	return func(c *libcluster.Config) {
		if c.Mode = m; m == libcluster.ModeCooperative {
			c.Partitions = 16
		}
	}
}

var (
	planned   = mode(libcluster.ModePlanned)
	exclusive = mode(libcluster.ModeExclusive)
)

// doesNotStop has an application that is told to stop go on until it is released.
func (a *application) doesNotStop() (release func()) {
	released := make(chan struct{})
	a.inCallback(func(s libcluster.State) {
		if !s.Active() {
			<-released
		}
	})
	return func() { close(released) }
}

func TestAssignmentsOfAPlanAreSticky(t *testing.T) {
	for _, m := range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				d := w.join("d", mode(m))
				c := w.join("c", mode(m))
				b := w.join("b", mode(m))
				wait(time.Second)
				require.Equal(t, []string{"0/3", "1/3", "2/3"}, []string{d.place(), c.place(), b.place()}, "a newcomer goes to the end")
				require.NoError(t, d.Leave(w.Context()))
				wait(time.Second)
				require.Equal(t, []string{"1/2", "0/2"}, []string{c.place(), b.place()}, "a hole is filled by the last")
				require.Equal(t, libcluster.PhaseActive, b.Phase())
			})
		})
	}
}

func TestAllStopBeforeAnyStartsInExclusiveMode(t *testing.T) {
	inMemory(t, func(w *memory) {
		a, b := w.join("a", exclusive), w.join("b", exclusive)
		wait(time.Second)
		release := a.doesNotStop()
		c := w.app("c", exclusive)
		joined := make(chan error, 1)
		go func() { joined <- c.Join(w.Context()) }()
		wait(3 * time.Second)
		for _, x := range []*application{a, b, c} {
			require.False(t, x.State().Active(), "%v", x)
			require.ErrorIs(t, x.Err(), libcluster.ErrWaiting)
			held := x.Blockers()
			require.Len(t, held, 1)
			require.Equal(t, "a", held[0].ID)
			require.InDelta(t, 3, time.Since(held[0].Since).Seconds(), 0.5)
		}
		require.Equal(t, libcluster.PhaseWaiting, b.Phase())
		release()
		wait(100 * time.Millisecond)
		require.NoError(t, <-joined)
		require.Equal(t, []string{"0/3", "1/3", "2/3"}, []string{a.place(), b.place(), c.place()})
		require.Empty(t, a.Blockers())
		require.NoError(t, c.Leave(w.Context()))
	})
}

func TestWhatIsPublishedIsNotWrittenAgainWhileAllStop(t *testing.T) {
	inMemory(t, func(w *memory) {
		a, b := w.join("a", exclusive), w.join("b", exclusive)
		wait(time.Second)
		release := a.doesNotStop()
		require.NoError(t, b.SetWorkers(w.Context(), 3))
		wait(5 * time.Second) // until everybody has been told who is waited for
		before := w.Counts().Writes
		wait(45 * time.Second)
		require.Equal(t, before, w.Counts().Writes)
		release()
		wait(time.Second)
		require.Equal(t, "1/4", b.place())
	})
}

func TestACountThatNoPlanHasYetIsNotWrittenAgainWithEachHeartbeat(t *testing.T) {
	inMemory(t, func(w *memory) {
		w.join("a", exclusive)
		w.join("b", exclusive)
		c := w.join("c", exclusive)
		wait(time.Second)
		w.Cut("b")
		wait(time.Second)
		w.Expire(cluster, "b")
		wait(500 * time.Millisecond)
		var updates atomic.Int32
		w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpUpdate {
				updates.Add(1)
			}
			return call.Send(ctx)
		})
		require.NoError(t, c.SetWorkers(w.Context(), 3))
		wait(6 * time.Second) // four heartbeats
		require.Equal(t, "2/3", c.place(), "the change waits for b")
		require.LessOrEqual(t, updates.Load(), int32(3), "its own, and once more for each time that the plan is told: of b, too")
		wait(4 * time.Second)
		require.Equal(t, "1/4", c.place())
	})
}

func TestOneWhoVanishedIsWaitedForUntilItsDeadlineMustHavePassed(t *testing.T) {
	inMemory(t, func(w *memory) {
		a, b := w.join("a", exclusive, ttl(10*time.Second)), w.join("b", exclusive, ttl(10*time.Second))
		wait(time.Second)
		w.Cut("b")
		wait(time.Second)
		w.Expire(cluster, "b")
		start := time.Now()
		require.True(t, b.State().Active(), "it does not know")
		for a.place() != "0/1" {
			require.True(t, a.State().Active() || !b.State().Active(), "a works on meanwhile")
			require.Less(t, time.Since(start), time.Minute)
			wait(100 * time.Millisecond)
		}
		require.False(t, b.State().Active())
		require.InDelta(t, 7.75, time.Since(start).Seconds(), 0.5)
	})
}

func TestOneWhoLeavesIsNotWaitedFor(t *testing.T) {
	inMemory(t, func(w *memory) {
		a, b := w.join("a", exclusive), w.join("b", exclusive)
		wait(time.Second)
		require.NoError(t, a.Leave(w.Context()))
		wait(100 * time.Millisecond)
		require.Equal(t, "0/1", b.place())
	})
}

func TestACoordinatorIsReplaced(t *testing.T) {
	inMemory(t, func(w *memory) {
		w.join("a", planned)
		b := w.join("b", planned)
		wait(time.Second)
		require.Equal(t, "a", w.Coordinator(cluster))
		w.Cut("a") // before it can come back
		w.Expire(cluster, "a")
		wait(time.Second)
		require.Equal(t, "b", w.Coordinator(cluster))
		require.Equal(t, "0/1", b.place())
	})
}

func TestAnApplicationThatDoesNotStopLosesItsRecord(t *testing.T) {
	inMemory(t, func(w *memory) {
		stuck := make(chan struct{})
		a := w.join("a", exclusive, func(c *libcluster.Config) {
			c.DrainTimeout, c.OnStuck = 5*time.Second, func() { close(stuck) }
		})
		release := a.doesNotStop()
		b := w.app("b", exclusive)
		joined := make(chan error, 1)
		go func() { joined <- b.Join(w.Context()) }()
		wait(5 * time.Second)
		<-stuck
		require.ErrorIs(t, a.Err(), libcluster.ErrStuck)
		wait(20 * time.Second)
		require.NoError(t, <-joined)
		require.Equal(t, "0/1", b.place())
		release()
		wait(time.Second)
		require.Equal(t, "1/2", a.place(), "it is back when it has stopped")
		require.NoError(t, b.Leave(w.Context()))
	})
}

func TestAPlanThatIsLostIsMadeAnew(t *testing.T) {
	for _, text := range []string{"", "garbage", "exclusive\tcommit\t1\t0\n"} {
		inMemory(t, func(w *memory) {
			a, b := w.join("a", exclusive), w.join("b", exclusive)
			wait(time.Second)
			before := a.State()
			w.PutPlan(cluster, text)
			wait(20 * time.Second)
			require.Equal(t, []string{"0/2", "1/2"}, []string{a.place(), b.place()}, text)
			require.Greater(t, a.State().Generation, before.Generation)
			require.Equal(t, a.State().Generation, b.State().Generation)
		})
	}
}

func TestARegistryWithoutAPlanIsRefused(t *testing.T) {
	_, err := libcluster.New(libcluster.Config{Key: "mailer", Mode: libcluster.ModeExclusive, Registry: libcluster.Static(0, 1)})
	require.ErrorIs(t, err, libcluster.ErrCannotPlan)
	var wrong *libcluster.ConfigError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "Mode", wrong.Field)
}

// lasting is a registry whose records never expire, and which says so.
type lasting struct{ libcluster.Registry }

func (l lasting) Capabilities() libcluster.Capabilities {
	can := l.Registry.Capabilities()
	can.Expires = false
	return can
}

// An instance that vanished would act for ever, and the others wait for its window only.
func TestRecordsThatDoNotExpireAreRefusedInExclusiveMode(t *testing.T) {
	inMemory(t, func(w *memory) {
		forEver := between.Registry{Registry: w.Registry, Joining: func(ctx context.Context, m libcluster.Member, below libcluster.Membership,
		) (libcluster.Session, time.Duration, error) {
			session, _, err := below.Join(ctx, m)
			return session, 0, err
		}}
		_, err := libcluster.New(libcluster.Config{Key: "mailer", Mode: libcluster.ModeExclusive, Registry: lasting{forEver}})
		require.ErrorIs(t, err, libcluster.ErrCannotPlan)
		require.ErrorContains(t, err, "do not expire")
		on := func(c *libcluster.Config) { c.Registry = forEver } // which does not say so
		err = w.app("a", exclusive, on).Join(w.Context())
		require.ErrorIs(t, err, libcluster.ErrCannotPlan)
		require.ErrorContains(t, err, "do not expire")
		require.Empty(t, w.Members(cluster), "what was recorded is removed")
		w.join("a", planned, on)
	})
}

// In exclusive mode one acts only for as long as it has asked for, whatever it was
// granted: by that it is known whether a join was slow.
func TestAfterASlowJoinTheDeadlineIsFresh(t *testing.T) {
	inMemory(t, func(w *memory) {
		w.GrantTTL(25 * time.Second)
		w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			err := call.Send(ctx)
			if call.Op == libclustertest.OpJoin {
				time.Sleep(1100 * time.Millisecond)
			}
			return err
		})
		a := w.join("a", exclusive, func(c *libcluster.Config) { c.TTL = 2 * time.Second })
		require.Greater(t, time.Until(a.State().Deadline), time.Second)
	})
}

func TestAReservedAssignmentCallsNobodyElseBack(t *testing.T) {
	for _, m := range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				a, b, c := w.join("a", mode(m)), w.join("b", mode(m)), w.join("c", mode(m))
				wait(time.Second)
				told := len(a.told()) + len(c.told())
				require.NoError(t, b.Leave(w.Context(), libcluster.Returning(30*time.Second)))
				wait(20 * time.Second)
				b2 := w.app("b", mode(m))
				require.NoError(t, b2.Join(w.within(time.Second)))
				require.Equal(t, "1/3", b2.place())
				wait(time.Second)
				require.Equal(t, told, len(a.told())+len(c.told()), "%v %v", a.story(), c.story())

				// One that does not come back in time has left for good then.
				require.NoError(t, b2.Leave(w.Context(), libcluster.Returning(5*time.Second)))
				wait(6 * time.Second)
				require.Equal(t, []string{"0/2", "1/2"}, []string{a.place(), c.place()})
			})
		})
	}
}

func TestOneThatCrashedAndIsBackCallsNobodyElseBack(t *testing.T) {
	for _, m := range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				a, b := w.join("a", mode(m)), w.join("b", mode(m))
				wait(time.Second)
				told := len(a.told())
				w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
					if call.ID == "b" && call.Op != libclustertest.OpJoin {
						return gone(ctx)
					}
					return call.Send(ctx)
				})
				wait(100 * time.Millisecond)
				w.Intercept(nil)
				again := w.app("b", mode(m))
				require.NoError(t, again.Join(w.within(time.Minute)))
				if m == libcluster.ModeExclusive {
					require.False(t, b.State().Active(), "the old one must have stopped first")
				}
				require.Equal(t, "1/2", again.place())
				require.Len(t, a.told(), told)
				require.NoError(t, again.Leave(w.Context()))
			})
		})
	}
}

func TestACoordinatorThatCrashedAndIsBackWaitsNoLongerThanOthers(t *testing.T) {
	back := func(first, second string) (took time.Duration) {
		inMemory(t, func(w *memory) {
			w.join(first, exclusive)
			w.join(second, exclusive)
			wait(time.Second)
			require.Equal(t, first, w.Coordinator(cluster))
			w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
				if call.ID == "crashes" && call.Op != libclustertest.OpJoin {
					return gone(ctx)
				}
				return call.Send(ctx)
			})
			wait(100 * time.Millisecond)
			w.Intercept(nil)
			start := time.Now()
			again := w.join("crashes", exclusive)
			took = time.Since(start)
			require.True(t, again.State().Active())
		})
		return took
	}
	coordinated, other := back("crashes", "stays"), back("stays", "crashes")
	require.InDelta(t, other.Seconds(), coordinated.Seconds(), 0.5)
	require.InDelta(t, 7.75, coordinated.Seconds(), 0.5)
}

// In exclusive mode the function that Run runs has returned before anybody else
// starts.
func TestRunInExclusiveModeStopsBeforeAnyStarts(t *testing.T) {
	inMemory(t, func(w *memory) {
		var working atomic.Int32
		for _, id := range []string{"a", "b", "c"} {
			x := w.app(id, exclusive)
			ctx, stop := context.WithCancel(w.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- x.Run(ctx, func(ctx context.Context, s libcluster.State) error {
					total := int32(s.Total)
					if now := working.Add(1); now > total {
						t.Errorf("%d work in a cluster of %d", now, total)
					}
					<-ctx.Done()
					time.Sleep(3 * time.Second)
					working.Add(-1)
					return nil
				})
			}()
			wait(10 * time.Second)
			w.Cleanup(func() {
				stop()
				require.NoError(t, <-ended)
			})
		}
		require.EqualValues(t, 3, working.Load())
	})
}

// The words of those who have left go with their leases; the last leaves a plan in
// which nobody has a place, so that nobody is waited for later.
func TestAClusterThatAllHaveLeftStartsAtOnce(t *testing.T) {
	for _, together := range []bool{false, true} {
		inMemory(t, func(w *memory) {
			all := []*application{w.join("a", exclusive), w.join("b", exclusive), w.join("c", exclusive)}
			wait(time.Second)
			var leaving sync.WaitGroup
			for _, a := range all {
				leaving.Go(func() { require.NoError(w, a.Leave(w.Context())) })
				if !together {
					leaving.Wait()
				}
			}
			leaving.Wait()
			wait(time.Minute)
			began := time.Now()
			again := w.join("a", exclusive)
			require.Less(t, time.Since(began), time.Second)
			require.Equal(t, "0/1", again.place())
		})
	}
}

// Somebody who is refused may have claimed the coordination for a moment.
func TestACoordinatorOfAnotherModeEndsNobodysRun(t *testing.T) {
	inMemory(t, func(w *memory) {
		a := w.app("a", planned)
		ctx, stop := context.WithCancel(w.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- a.Run(ctx, func(ctx context.Context, _ libcluster.State) error {
				<-ctx.Done()
				return nil
			})
		}()
		wait(time.Second)
		var claimed atomic.Bool
		w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.ID == "a" && call.Op == libclustertest.OpClaim && !claimed.Load() {
				return gone(ctx)
			}
			err := call.Send(ctx)
			if call.ID == "x" && call.Op == libclustertest.OpClaim {
				claimed.Store(true)
				time.Sleep(time.Second) // while everybody hears of it
			}
			return err
		})
		w.Depose(cluster)
		wait(time.Millisecond)
		x := w.app("x", exclusive)
		require.ErrorAs(t, x.Join(w.within(time.Minute)), new(*libcluster.ModeError))
		require.True(t, claimed.Load())
		w.Intercept(nil)
		wait(20 * time.Second)
		require.Empty(t, ended)
		require.Equal(t, "0/1", a.place())
		require.Equal(t, "a", w.Coordinator(cluster))
		stop()
		require.NoError(t, <-ended)
	})
}
