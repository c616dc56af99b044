package libclustertest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// job is an application that uses Run, and what has become of it.
type job struct {
	*app
	cancel context.CancelCauseFunc // ends Run's context
	ended  chan struct{}           // closed when Run has returned
	err    error                   // what it returned; read after ended

	mu      sync.Mutex // guards what follows
	events  []string
	running int
	working []int
	overlap bool
}

// errStop is what ends Run's context in these tests.
var errStop = errors.New("that is enough")

// job makes an application whose Run has not been called yet.
func (w *world) job(id string, configure ...func(*libcluster.Config)) *job {
	w.Helper()
	j := &job{app: w.app(id, configure...), ended: make(chan struct{})}
	j.inCallback(func(s libcluster.State) { j.note("told %d/%d", s.Index, s.Total) })
	return j
}

// begin calls Run, or what is like it, and waits until all has come to rest.
func (j *job) begin(run func(context.Context) error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	j.cancel = cancel
	go func() {
		defer close(j.ended)
		j.err = errors.New("Run has not returned")
		j.err = run(ctx)
	}()
	j.w.Cleanup(func() {
		j.w.Intercept(nil)
		j.w.HealAll()
		_ = j.end() // again, in many tests
	})
	synctest.Wait()
}

// run begins a job that runs f in between being noted.
func (w *world) run(id string, f func(context.Context, libcluster.State) error, configure ...func(*libcluster.Config)) *job {
	w.Helper()
	j := w.job(id, configure...)
	j.begin(func(ctx context.Context) error { return j.Run(ctx, j.noting(f)) })
	return j
}

// end ends Run's context and returns what Run returns.
func (j *job) end() error {
	j.cancel(errStop)
	return j.result()
}

func (j *job) result() error {
	<-j.ended
	return j.err
}

func (j *job) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, fmt.Sprintf(format, args...))
}

// noting notes the beginning and the end of f, and whether it runs twice.
func (j *job) noting(f func(context.Context, libcluster.State) error) func(context.Context, libcluster.State) error {
	return func(ctx context.Context, s libcluster.State) error {
		j.note("run %d/%d", s.Index, s.Total)
		j.mu.Lock()
		j.running++
		j.overlap = j.overlap || j.running > 1
		j.mu.Unlock()
		defer func() {
			j.mu.Lock()
			j.running--
			j.mu.Unlock()
			why := "alive"
			if ctx.Err() != nil {
				why = strings.TrimPrefix(context.Cause(ctx).Error(), "libcluster: ")
			}
			j.note("end (%s)", why)
		}()
		return f(ctx, s)
	}
}

// log returns what has happened to the job since it was asked last.
func (j *job) log() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	require.False(j.w, j.overlap, "the function ran twice at the same time")
	log := strings.Join(j.events, ", ")
	j.events = nil
	return log
}

// untilStopped is the application's function that does as it is told.
func untilStopped(ctx context.Context, _ libcluster.State) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// slowly takes d to wind down.
func slowly(d time.Duration) func(context.Context, libcluster.State) error {
	return func(ctx context.Context, _ libcluster.State) error {
		<-ctx.Done()
		time.Sleep(d)
		return nil
	}
}

func TestRunStopsTheFunctionTellsTheStateAndRunsItAgain(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.run("b", untilStopped)
		require.Equal(t, "told 0/1, run 0/1", j.log())
		a := t.join("a") // another index and total
		require.Equal(t, "end (the cluster has re-balanced), told 1/2, run 1/2", j.log())
		t.join("c") // another total
		require.Equal(t, "end (the cluster has re-balanced), told 1/3, run 1/3", j.log())
		require.NoError(t, j.SetWorkers(t.Context(), 2))
		synctest.Wait()
		require.Equal(t, "end (the cluster has re-balanced), told 1/4, run 1/4", j.log())
		t.Put(cluster, "c", []byte("1")) // another generation and nothing else
		wait(time.Hour)
		require.Empty(t, j.log())
		require.NoError(t, a.Leave(t.Context()))
		synctest.Wait()
		require.Equal(t, "end (the cluster has re-balanced), told 0/3, run 0/3", j.log())
		require.NoError(t, j.end())
		require.Equal(t, "end (that is enough), told -1/1", j.log())
		require.False(t, t.Holds(cluster, "b"))
		require.ErrorIs(t, j.Err(), libcluster.ErrLeft)
	})
}

func TestRunGivesTheFunctionTheStateAndTheValuesOfItsContext(t *testing.T) {
	inBubble(t, func(t *world) {
		type name struct{}
		a := t.app("a", workers(3))
		ctx, cancel := context.WithCancel(context.WithValue(context.Background(), name{}, "value"))
		require.NoError(t, a.Run(ctx, func(ctx context.Context, s libcluster.State) error {
			assert.Equal(t, "value", ctx.Value(name{}))
			assert.Equal(t, a.State(), s)
			assert.True(t, s.Horizon.After(time.Now()))
			cancel()
			return ctx.Err()
		}))
	})
}

func TestRunGivesTheHorizonOfTheStartAndNotOfTheCallback(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.job("a")
		j.inCallback(func(libcluster.State) { time.Sleep(time.Minute) })
		j.begin(func(ctx context.Context) error {
			return j.Run(ctx, func(_ context.Context, s libcluster.State) error {
				assert.True(t, s.Horizon.After(time.Now()))
				return nil
			})
		})
		require.NoError(t, j.result())
	})
}

func TestFunctionThatTakesLongToStopDelaysOnlyItsOwnNextState(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.run("b", slowly(time.Minute))
		j.log()
		start := time.Now()
		for n := range 5 {
			a := t.join(fmt.Sprint("a", n))
			require.Equal(t, fmt.Sprintf("%d/%d", n, n+2), a.place(), "nobody waits for it")
		}
		for range 59 {
			wait(time.Second)
			require.Equal(t, "5/6", j.place())
			require.True(t, t.Holds(cluster, "b"), "the record is renewed meanwhile")
			require.Empty(t, j.log())
		}
		wait(time.Second)
		require.Equal(t, "end (the cluster has re-balanced), told 5/6, run 5/6", j.log(), "none of the states between")
		require.Equal(t, time.Minute, time.Since(start))
	})
}

func TestFunctionThatTakesLongToStopIsLogged(t *testing.T) {
	inBubble(t, func(t *world) {
		core, logs := observer.New(zapcore.WarnLevel)
		t.run("b", slowly(time.Minute), func(c *libcluster.Config) { c.Logger = zap.New(core) })
		t.join("a")
		wait(10*time.Second - time.Nanosecond)
		require.Empty(t, logs.All())
		wait(time.Hour)
		require.Len(t, logs.All(), 1)
		require.Contains(t, logs.All()[0].Message, "has not returned since its context ended")
		require.Equal(t, "libcluster: the cluster has re-balanced", logs.All()[0].ContextMap()["cause"])
	})
}

func TestFunctionIsRunAgainWhenItsStateIsBackBeforeItHasStopped(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.run("b", slowly(time.Minute))
		a := t.join("a")
		wait(time.Second)
		require.NoError(t, a.Leave(t.Context()))
		wait(time.Minute)
		require.Equal(t, "told 0/1, run 0/1, end (the cluster has re-balanced), run 0/1", j.log(),
			"the callback has nothing to be told")
	})
}

func TestLeavingWaitsForTheFunctionAndKeepsTheRecordMeanwhile(t *testing.T) {
	inBubble(t, func(t *world) {
		b := t.join("b")
		j := t.run("a", slowly(time.Hour))
		start := time.Now()
		j.cancel(errStop)
		wait(59 * time.Minute)
		require.True(t, t.Holds(cluster, "a"))
		require.False(t, j.State().Active())
		require.Equal(t, "1/2", b.place())
		require.NoError(t, j.result())
		require.Equal(t, time.Hour, time.Since(start))
		synctest.Wait()
		require.Equal(t, "0/1", b.place(), "the others are told at once")
		require.Equal(t, "told 0/2, run 0/2, end (that is enough), told -1/1", j.log())
	})
}

func TestFencedFunctionIsStoppedAtOnceWithTheReason(t *testing.T) {
	for name, lost := range map[string]struct {
		how func(w *world)
		why error
	}{
		"expired":              {func(w *world) { w.Expire(cluster, "a") }, libcluster.ErrRecordGone},
		"with the whole store": {func(w *world) { w.Restore(libclustertest.Snapshot{}) }, libcluster.ErrRegistryReset},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *world) {
				var why []error
				j := t.run("a", func(ctx context.Context, _ libcluster.State) error {
					<-ctx.Done()
					why = append(why, context.Cause(ctx))
					return context.Cause(ctx)
				})
				wait(time.Minute)
				lost.how(t)
				wait(2 * time.Second)
				require.Len(t, why, 1)
				require.ErrorIs(t, why[0], lost.why)
				log := j.log()
				require.Contains(t, log, "told 0/1, run 0/1, end (")
				require.Contains(t, log, "), told -1/0, told 0/1, run 0/1", "and run again when it is back")
			})
		})
	}
}

func TestHorizonStopsTheFunctionAtThatInstant(t *testing.T) {
	inBubble(t, func(t *world) {
		renewals := t.watchRenewals(promptly)
		var stopped time.Time
		j := t.run("a", func(ctx context.Context, _ libcluster.State) error {
			<-ctx.Done()
			stopped = time.Now()
			return ctx.Err()
		})
		wait(time.Minute)
		renewals.stop()
		t.Cut("a")
		horizon := renewals.of("a").Add(window(libcluster.DefaultTTL))
		wait(time.Hour)
		require.Equal(t, horizon, stopped)
		require.Equal(t, "told 0/1, run 0/1, end (the record could not be renewed in time), told -1/0", j.log())
		t.Heal("a")
		wait(2 * time.Second)
		require.Equal(t, "told 0/1, run 0/1", j.log())
	})
}

// The instance is fenced and back while the function of the place that it lost
// still winds down.
func TestFunctionThatOutlivesItsIncarnationIsAwaitedBeforeTheNext(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.run("a", slowly(time.Minute))
		j.log()
		t.Cut("a")
		wait(2 * libcluster.DefaultTTL)
		t.Heal("a")
		wait(2 * time.Second)
		require.Equal(t, "0/1", j.place(), "it has rejoined")
		require.True(t, t.Holds(cluster, "a"))
		require.Empty(t, j.log())
		wait(time.Minute)
		require.Equal(t, "end (the record could not be renewed in time), told -1/0, told 0/1, run 0/1", j.log())
	})
}

func TestFunctionIsNotRunForAPlaceThatIsOverWhenItWasTold(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.job("a")
		j.inCallback(func(s libcluster.State) {
			j.note("told %d/%d", s.Index, s.Total)
			if s.Active() {
				time.Sleep(time.Minute)
			}
		})
		j.begin(func(ctx context.Context) error { return j.Run(ctx, j.noting(untilStopped)) })
		t.Cut("a")
		wait(time.Hour)
		require.Equal(t, "told 0/1, told -1/0", j.log())
		t.Heal("a")
		wait(time.Hour)
		require.Equal(t, "told 0/1, run 0/1", j.log())
	})
}

func TestRunEndsWithTheFunctionsError(t *testing.T) {
	inBubble(t, func(t *world) {
		broken := errors.New("the disk is full")
		j := t.run("a", func(context.Context, libcluster.State) error {
			time.Sleep(time.Minute)
			return broken
		})
		start := time.Now()
		require.Same(t, broken, j.result())
		require.Equal(t, time.Minute, time.Since(start))
		require.Equal(t, "told 0/1, run 0/1, end (alive), told -1/0", j.log())
		require.Empty(t, t.Members(cluster), "it leaves first")
	})
}

func TestRunEndsWhenTheFunctionHasFinished(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.run("a", func(ctx context.Context, _ libcluster.State) error {
			if !sleep(ctx, time.Minute) {
				return nil // stopped in the middle: not finished
			}
			return nil
		})
		wait(time.Second)
		t.join("b")
		require.NoError(t, j.result())
		require.Equal(t, "told 0/1, run 0/1, end (the cluster has re-balanced), told 0/2, run 0/2, end (alive), told -1/1", j.log(),
			"a nil from who was stopped does not say that the work is done")
		require.False(t, t.Holds(cluster, "a"))
	})
}

func TestOnlyTheEndOfItsContextIsNoFailure(t *testing.T) {
	failed := errors.New("could not roll back")
	for name, c := range map[string]struct {
		f    func(ctx context.Context) error
		want error
	}{
		"nil":           {func(context.Context) error { return nil }, nil},
		"error":         {func(ctx context.Context) error { return ctx.Err() }, nil},
		"wrapped error": {func(ctx context.Context) error { return fmt.Errorf("query: %w", ctx.Err()) }, nil},
		"cause":         {context.Cause, nil},
		"another error": {func(context.Context) error { return failed }, failed},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *world) {
				f := func(ctx context.Context, _ libcluster.State) error {
					<-ctx.Done()
					return c.f(ctx)
				}
				stopped := t.run("b", f)
				require.Equal(t, c.want, stopped.end())

				rebalanced := t.run("b", f)
				t.join("a")
				if c.want == nil {
					require.Equal(t, "1/2", rebalanced.place(), "it goes on")
				} else {
					require.Equal(t, c.want, rebalanced.result())
				}
			})
		})
	}
}

func TestErrorOfAContextWhileItsOwnHasNotEndedIsAFailure(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.run("a", func(context.Context, libcluster.State) error { return context.Canceled })
		require.ErrorIs(t, j.result(), context.Canceled)
	})
}

func TestRunEndsWhenTheIDIsTaken(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.run("a", untilStopped)
		newer := t.join("a", workers(2))
		require.ErrorIs(t, j.result(), libcluster.ErrInstanceTaken)
		log := j.log()
		require.Contains(t, log, "told 0/1, run 0/1, end (another instance has taken over this ID: ")
		require.Contains(t, log, "), told -1/0")
		wait(time.Hour)
		require.Equal(t, "0/2", newer.place(), "whose record stays")
	})
}

// It is fenced already when it learns that its ID is another one's.
func TestRunEndsWhenTheIDWasTakenWhileItWasCutOff(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.run("a", untilStopped)
		t.Intercept(func(ctx context.Context, _ libclustertest.Call) error { return gone(ctx) })
		t.Put(cluster, "b", []byte("1")) // ends the Next that was not intercepted
		wait(time.Hour)
		t.Intercept(nil)
		t.open("a", 2)
		require.ErrorIs(t, j.result(), libcluster.ErrInstanceTaken)
		require.Contains(t, j.log(), "end (the record could not be renewed in time), told -1/1")
	})
}

// loose is a context whose children are told of its end by a goroutine, as of any
// context that is not of the standard library.
type loose struct {
	context.Context
	done chan struct{}
}

func (l loose) Done() <-chan struct{} { return l.done }

// Run leaves as soon as its context ends, which may be before the function's has.
func TestWhatEndsRunsContextIsTheCause(t *testing.T) {
	for range 100 {
		inBubble(t, func(w *world) {
			inner, stop := context.WithCancelCause(w.Context())
			ctx := loose{inner, make(chan struct{})}
			context.AfterFunc(inner, func() { close(ctx.done) })
			require.NoError(w, w.app("a").Run(ctx, func(ctx context.Context, _ libcluster.State) error {
				stop(errStop)
				<-ctx.Done()
				require.ErrorIs(w, context.Cause(ctx), errStop)
				return nil
			}))
		})
	}
}

func TestLeaveElsewhereEndsRun(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.run("a", slowly(time.Minute))
		start := time.Now()
		require.NoError(t, j.Leave(t.Context()))
		require.Equal(t, time.Minute, time.Since(start), "Leave waits for the function")
		require.NoError(t, j.result())
		require.Equal(t, "told 0/1, run 0/1, end (left, or never joined), told -1/0", j.log())
	})
}

func TestRunReturnsAfterTheFunctionAlsoIfLeaveHasGivenUpOnIt(t *testing.T) {
	for _, patience := range []time.Duration{0, time.Second} {
		inBubble(t, func(t *world) {
			j := t.run("a", slowly(time.Minute))
			require.ErrorContains(t, j.Leave(t.within(patience)), "a callback has not returned")
			require.Equal(t, libcluster.Left, j.Phase())
			wait(30 * time.Second)
			require.NotContains(t, j.log(), "end")
			require.ErrorIs(t, j.Join(t.Context()), libcluster.ErrJoined, "what still acts is not joined by another")
			require.ErrorIs(t, j.Run(t.Context(), untilStopped), libcluster.ErrJoined)
			require.NoError(t, j.result())
			require.Contains(t, j.log(), "end (left, or never joined)")
			require.NoError(t, j.Join(t.Context()))
			require.NoError(t, j.Leave(t.Context()))
		})
	}
}

func TestRunWhileJoinedOrRunningIsRefused(t *testing.T) {
	inBubble(t, func(t *world) {
		a := t.join("a")
		require.ErrorIs(t, a.Run(t.Context(), untilStopped), libcluster.ErrJoined)
		j := t.run("b", untilStopped)
		require.ErrorIs(t, j.Run(t.Context(), untilStopped), libcluster.ErrJoined)
		require.ErrorIs(t, j.Join(t.Context()), libcluster.ErrJoined)
		require.Equal(t, "told 1/2, run 1/2", j.log(), "and changes nothing")
	})
}

func TestRunAgainAfterItHasEnded(t *testing.T) {
	inBubble(t, func(t *world) {
		a := t.app("a")
		runs := 0
		for range 3 {
			require.NoError(t, a.Run(t.Context(), func(context.Context, libcluster.State) error {
				runs++
				return nil
			}))
			require.NoError(t, a.Join(t.Context()))
			require.NoError(t, a.Leave(t.Context()))
		}
		require.Equal(t, 3, runs)
	})
}

func TestRunOfAPassiveInstanceIsRefused(t *testing.T) {
	inBubble(t, func(t *world) {
		require.ErrorIs(t, t.app("p", passive).Run(t.Context(), untilStopped), libcluster.ErrPassive)
	})
}

func TestRunThatEndsBeforeItHasJoinedSaysWhy(t *testing.T) {
	inBubble(t, func(t *world) {
		t.CutAll()
		j := t.run("a", untilStopped)
		wait(time.Minute)
		err := j.end()
		require.ErrorIs(t, err, errStop)
		require.ErrorContains(t, err, "libcluster: join "+cluster+": that is enough; last: ")
		require.Empty(t, j.log())
		t.HealAll()
		wait(time.Minute)
		require.Empty(t, t.Members(cluster))

		refused := errors.New("wrong password")
		t.Intercept(func(context.Context, libclustertest.Call) error { return libcluster.Permanent(refused) })
		require.ErrorIs(t, t.run("a", untilStopped).result(), refused)
	})
}

func TestRegistryThatHangsDoesNotKeepRunFromReturning(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.run("a", untilStopped)
		t.CutAll()
		start := time.Now()
		require.NoError(t, j.end(), "the function has ended well")
		require.LessOrEqual(t, time.Since(start), 11*time.Second)
	})
}

func TestRunOfAStaticClusterEndsWithItsWork(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.run("a", func(context.Context, libcluster.State) error { return nil },
			func(c *libcluster.Config) { c.Registry = libcluster.Static(4, 8) })
		require.NoError(t, j.result())
		require.Equal(t, "told 4/8, run 4/8, end (alive), told -1/7", j.log())
	})
}

func TestGoexitInTheFunctionEndsRunsGoroutineToo(t *testing.T) {
	inBubble(t, func(t *world) {
		j := t.run("a", func(context.Context, libcluster.State) error {
			runtime.Goexit() // as t.FailNow does
			return nil
		})
		require.EqualError(t, j.result(), "Run has not returned")
		require.Empty(t, t.Members(cluster), "it leaves first")
		require.NoError(t, j.Join(t.Context()))
		require.NoError(t, j.Leave(t.Context()))
	})
}

// As in the test of Join and Leave, what matters is that it ends, that no function runs
// twice at the same time, and that nothing is left.
func TestRunAndEverythingElseAtOnceEndsCleanly(t *testing.T) {
	inBubble(t, func(t *world) {
		jobs := []*job{t.job("a"), t.job("b"), t.job("c")}
		t.useAtOnce(len(jobs), func(n, m, k int) {
			j := jobs[n]
			ctx := t.within(time.Duration(10*((n+m+k)%50)) * time.Millisecond)
			switch (n + m*k) % 5 {
			case 0, 1:
				if errors.Is(j.Run(ctx, j.noting(slowly(7*time.Millisecond))), libcluster.ErrJoined) {
					time.Sleep(20 * time.Millisecond)
				}
			case 2:
				_ = j.Join(ctx)
			case 3:
				_ = j.SetWorkers(ctx, 1+k%3)
			default:
				_ = j.Leave(ctx)
			}
		})
		runs := 0
		for _, j := range jobs {
			require.NoError(t, j.Leave(t.Context()))
			runs += strings.Count(j.log(), "run ") // fails if functions overlapped
		}
		require.Greater(t, runs, 5)
		wait(libcluster.DefaultTTL)
		require.Empty(t, t.Members(cluster))
	})
}
