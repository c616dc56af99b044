package libcluster_test

import (
	"context"
	"errors"
	"fmt"
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
	*application
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
func (w *memory) job(id string, configure ...func(*libcluster.Config)) *job {
	w.Helper()
	j := &job{application: w.app(id, configure...), ended: make(chan struct{})}
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
func (w *memory) run(id string, f func(context.Context, libcluster.State) error, configure ...func(*libcluster.Config)) *job {
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
	inMemory(t, func(t *memory) {
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
	inMemory(t, func(t *memory) {
		type name struct{}
		a := t.app("a", workers(3))
		ctx, cancel := context.WithCancel(context.WithValue(context.Background(), name{}, "value"))
		require.NoError(t, a.Run(ctx, func(ctx context.Context, s libcluster.State) error {
			assert.Equal(t, "value", ctx.Value(name{}))
			assert.Equal(t, a.State(), s)
			assert.True(t, s.Deadline.After(time.Now()))
			cancel()
			return ctx.Err()
		}))
	})
}

func TestRunGivesTheDeadlineOfTheStartAndNotOfTheCallback(t *testing.T) {
	inMemory(t, func(t *memory) {
		j := t.job("a")
		j.inCallback(func(libcluster.State) { time.Sleep(time.Minute) })
		j.begin(func(ctx context.Context) error {
			return j.Run(ctx, func(_ context.Context, s libcluster.State) error {
				assert.True(t, s.Deadline.After(time.Now()))
				return nil
			})
		})
		require.NoError(t, j.result())
	})
}

func TestFunctionThatTakesLongToStopDelaysOnlyItsOwnNextState(t *testing.T) {
	inMemory(t, func(t *memory) {
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
	inMemory(t, func(t *memory) {
		core, logs := observer.New(zapcore.WarnLevel)
		t.run("b", slowly(time.Minute), func(c *libcluster.Config) { c.Logger = zap.New(core) })
		t.join("a")
		wait(10*time.Second - time.Nanosecond)
		require.Empty(t, logs.All())
		wait(time.Hour)
		require.Len(t, logs.All(), 1)
		require.Contains(t, logs.All()[0].Message, "has not returned since its context ended")
		require.Equal(t, cluster, logs.All()[0].ContextMap()["cluster"])
		require.Equal(t, "libcluster: the cluster has re-balanced", logs.All()[0].ContextMap()["cause"])
	})
}

func TestFunctionIsRunAgainWhenItsStateIsBackBeforeItHasStopped(t *testing.T) {
	inMemory(t, func(t *memory) {
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
	inMemory(t, func(t *memory) {
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
		how func(w *memory)
		why error
	}{
		"expired":              {func(w *memory) { w.Expire(cluster, "a") }, libcluster.ErrRecordGone},
		"with the whole store": {func(w *memory) { w.Restore(libclustertest.Snapshot{}) }, libcluster.ErrRegistryReset},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *memory) {
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

func TestDeadlineStopsTheFunctionAtThatInstant(t *testing.T) {
	inMemory(t, func(t *memory) {
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
		deadline := renewals.of("a").Add(window(libcluster.DefaultTTL))
		wait(time.Hour)
		require.Equal(t, deadline, stopped)
		require.Equal(t, "told 0/1, run 0/1, end (the record could not be renewed in time), told -1/0", j.log())
		t.Heal("a")
		wait(2 * time.Second)
		require.Equal(t, "told 0/1, run 0/1", j.log())
	})
}

// The instance is fenced and back while the function of the place that it lost
// still winds down.
func TestFunctionThatOutlivesItsIncarnationIsAwaitedBeforeTheNext(t *testing.T) {
	inMemory(t, func(t *memory) {
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

func TestTimeLeftGoesOnWhileTheFunctionWindsDownAndEndsWithItsIncarnation(t *testing.T) {
	inMemory(t, func(t *memory) {
		left, ends := libcluster.TimeLeft(t.Context())
		require.False(t, ends, "no function of Run has this context")
		require.Zero(t, left)

		contexts := make(chan context.Context, 9)
		j := t.run("a", func(ctx context.Context, _ libcluster.State) error {
			contexts <- ctx
			<-ctx.Done()
			time.Sleep(time.Minute)
			return nil
		})
		first := <-contexts
		remains := func(ctx context.Context) time.Duration {
			left, ends := libcluster.TimeLeft(ctx)
			require.True(t, ends)
			require.LessOrEqual(t, left, window(libcluster.DefaultTTL))
			return left
		}
		require.Positive(t, remains(first))
		a := t.join("Z") // before a
		wait(59 * time.Second)
		require.Error(t, first.Err())
		require.Positive(t, remains(first), "the record is renewed while the function winds down")
		require.NoError(t, a.Leave(t.Context()))
		wait(time.Minute)
		second := <-contexts
		t.Cut("a")
		wait(2 * libcluster.DefaultTTL)
		require.Zero(t, remains(second))
		t.Heal("a")
		wait(2 * time.Second)
		require.True(t, j.State().Active(), "it has rejoined")
		require.Zero(t, remains(second), "which is not this function's")
	})
}

func TestFunctionIsNotRunForAnAssignmentThatIsOverWhenItWasTold(t *testing.T) {
	inMemory(t, func(t *memory) {
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
