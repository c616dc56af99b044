package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
)

// runWorkers begins a job whose workers note themselves and run f.
func (w *memory) runWorkers(id string, f func(context.Context, int, libcluster.State) error, configure ...func(*libcluster.Config)) *job {
	w.Helper()
	j := w.job(id, configure...)
	j.begin(func(ctx context.Context) error {
		return j.RunWorkers(ctx, func(ctx context.Context, worker int, s libcluster.State) error {
			j.mu.Lock()
			j.overlap = j.overlap || slices.Contains(j.working, worker)
			j.working = append(j.working, worker)
			j.mu.Unlock()
			defer func() {
				j.mu.Lock()
				j.working = slices.DeleteFunc(j.working, func(n int) bool { return n == worker })
				j.mu.Unlock()
			}()
			return f(ctx, worker, s)
		})
	})
	return j
}

// workers returns the indexes of the workers that run now.
func (j *job) workers() []int {
	j.mu.Lock()
	defer j.mu.Unlock()
	require.False(j.w, j.overlap, "a worker ran twice at the same time")
	return slices.Sorted(slices.Values(j.working))
}

func untilStoppedAs(ctx context.Context, _ int, s libcluster.State) error {
	return untilStopped(ctx, s)
}

func TestWorkersOfAllInstancesHaveEachIndexOnce(t *testing.T) {
	inMemory(t, func(t *memory) {
		b := t.runWorkers("b", untilStoppedAs, workers(3))
		require.Equal(t, []int{0, 1, 2}, b.workers())
		a := t.runWorkers("a", untilStoppedAs, workers(2))
		c := t.runWorkers("c", untilStoppedAs)
		require.Equal(t, []int{0, 1}, a.workers())
		require.Equal(t, []int{2, 3, 4}, b.workers())
		require.Equal(t, []int{5}, c.workers())
		require.NoError(t, b.SetWorkers(t.Context(), 1))
		synctest.Wait()
		require.Equal(t, []int{0, 1}, a.workers())
		require.Equal(t, []int{2}, b.workers())
		require.Equal(t, []int{3}, c.workers())
		require.NoError(t, a.end())
		synctest.Wait()
		require.Empty(t, a.workers())
		require.Equal(t, []int{0}, b.workers())
		require.Equal(t, []int{1}, c.workers())
	})
}

func TestAllWorkersAreAwaitedBeforeAnyIsRunAgain(t *testing.T) {
	inMemory(t, func(t *memory) {
		j := t.runWorkers("b", func(ctx context.Context, worker int, _ libcluster.State) error {
			<-ctx.Done()
			time.Sleep(time.Duration(worker) * time.Minute)
			return nil
		}, workers(3))
		t.join("a")
		require.Equal(t, []int{1, 2}, j.workers())
		wait(time.Minute)
		require.Equal(t, []int{2}, j.workers())
		wait(time.Minute)
		require.Equal(t, []int{1, 2, 3}, j.workers())
	})
}

func TestFirstErrorOfAWorkerStopsTheOthersAndEndsRun(t *testing.T) {
	inMemory(t, func(t *memory) {
		first, second := errors.New("the disk is full"), errors.New("and so is the other")
		var cause error
		j := t.runWorkers("a", func(ctx context.Context, worker int, _ libcluster.State) error {
			switch worker {
			case 0:
				time.Sleep(time.Minute)
				return first
			case 1:
				<-ctx.Done()
				cause = context.Cause(ctx)
				time.Sleep(time.Minute)
				return second
			}
			return untilStopped(ctx, libcluster.State{})
		}, workers(3))
		start := time.Now()
		require.Same(t, first, j.result())
		require.Equal(t, 2*time.Minute, time.Since(start), "it waits for them")
		require.Same(t, first, cause)
	})
}

func TestRunWorkersEndsWhenAllHaveFinished(t *testing.T) {
	inMemory(t, func(t *memory) {
		runs := make([]int, 3)
		j := t.runWorkers("a", func(ctx context.Context, worker int, _ libcluster.State) error {
			runs[worker]++
			libcluster.Sleep(ctx, time.Duration(worker)*time.Minute)
			return nil
		}, workers(3))
		wait(90 * time.Second)
		require.Equal(t, []int{2}, j.workers(), "the others' indexes are idle")
		t.join("z")
		require.Equal(t, []int{1, 2}, j.workers(), "all are run again, those that had finished too")
		require.NoError(t, j.result())
		require.Equal(t, []int{2, 2, 2}, runs)
		require.False(t, t.Holds(cluster, "a"))
	})
}

func TestRestartRunsAWorkerThatFailedAgainAndLeavesTheOthersAlone(t *testing.T) {
	inMemory(t, func(t *memory) {
		core, logs := observer.New(zapcore.WarnLevel)
		var begun []time.Duration
		runs, start := 0, time.Now()
		j := t.job("a", workers(2), logger(core))
		j.begin(func(ctx context.Context) error {
			return j.RunWorkers(ctx, func(ctx context.Context, worker int, s libcluster.State) error {
				if worker == 0 {
					runs++
					return untilStopped(ctx, s)
				}
				begun = append(begun, time.Since(start))
				return errors.New("the disk is full")
			}, libcluster.Restart(time.Second, time.Minute))
		})
		wait(10 * time.Minute)
		require.Equal(t, 1, runs, "the other goes on")
		for i := 1; i < len(begun); i++ {
			most := min(time.Second<<(i-1), time.Minute)
			require.LessOrEqual(t, begun[i]-begun[i-1], most)
			require.GreaterOrEqual(t, begun[i]-begun[i-1], most/2)
		}
		require.Greater(t, len(begun), 10)
		said, failed := 0, 0
		lines := logs.FilterMessageSnippet("run again").All()
		for _, line := range lines {
			unsaid, _ := line.ContextMap()["unsaid"].(int64)
			said += 1 + int(unsaid)
		}
		for _, at := range begun {
			if !start.Add(at).After(lines[len(lines)-1].Time) {
				failed++
			}
		}
		require.Equal(t, failed, said, "each is told of, or counted")
		began := time.Now()
		require.NoError(t, j.end())
		require.Equal(t, began, time.Now(), "nobody waits for the end of a pause")
	})
}

// An error that many workers have is one line, and another error is a line of its own.
func TestManyWorkersThatFailForAnHourAreFewLines(t *testing.T) {
	inMemory(t, func(t *memory) {
		core, logs := observer.New(zapcore.WarnLevel)
		j := t.job("a", workers(100), logger(core))
		j.begin(func(ctx context.Context) error {
			return j.RunWorkers(ctx, func(_ context.Context, worker int, _ libcluster.State) error {
				return fmt.Errorf("no shard %d", worker%2)
			}, libcluster.Restart(time.Second, time.Minute))
		})
		wait(time.Hour)
		lines := logs.FilterMessageSnippet("run again").All()
		require.NotEqual(t, lines[0].ContextMap()["error"], lines[1].ContextMap()["error"])
		require.Less(t, len(lines), 2*20, "after 10 s, 20 s …, 5 min")
		require.NoError(t, j.end())
	})
}

func TestRestartBeginsAnewAfterALongRunAndEndsWithNil(t *testing.T) {
	inMemory(t, func(t *memory) {
		runs := 0
		j := t.job("a")
		start := time.Now()
		j.begin(func(ctx context.Context) error {
			return j.Run(ctx, func(context.Context, libcluster.State) error {
				if runs++; runs == 8 {
					return nil
				}
				time.Sleep(time.Hour)
				return errors.New("the disk is full")
			}, libcluster.Restart(time.Second, time.Minute))
		})
		require.NoError(t, j.result())
		require.LessOrEqual(t, time.Since(start), 7*(time.Hour+time.Second))
	})
}

func TestWorkerThatReturnsWhileOthersRunIsLoggedAsIdle(t *testing.T) {
	for _, c := range []struct {
		name      string
		configure func(*libcluster.Config)
		warnings  int
	}{
		{"dynamic", func(*libcluster.Config) {}, 1},
		{"static", func(c *libcluster.Config) { c.Registry = libcluster.Static(0, 2) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, func(t *memory) {
				core, logs := observer.New(zapcore.WarnLevel)
				j := t.runWorkers("a", func(ctx context.Context, worker int, s libcluster.State) error {
					if worker == 0 {
						return nil
					}
					return untilStopped(ctx, s)
				}, workers(2), c.configure, logger(core))
				wait(time.Minute)
				require.Equal(t, []int{1}, j.workers())
				require.Len(t, logs.FilterMessageSnippet("idle").All(), c.warnings)
			})
		})
	}
}

func TestRunReservesTheAssignmentForARestart(t *testing.T) {
	inMemory(t, func(t *memory) {
		other := t.join("b")
		j := t.job("a")
		j.begin(func(ctx context.Context) error {
			return j.Run(ctx, untilStopped, libcluster.Returning(time.Minute))
		})
		require.Equal(t, "1/2", other.place())
		require.NoError(t, j.end())
		wait(30 * time.Second)
		require.Equal(t, "1/2", other.place())
		wait(time.Minute)
		require.Equal(t, "0/1", other.place())
	})
}

func TestOptionsOfRunThatMakeNoSenseAreRefusedAtOnce(t *testing.T) {
	inMemory(t, func(t *memory) {
		for _, option := range []libcluster.RunOption{
			libcluster.Returning(-1), libcluster.Returning(25 * time.Hour), libcluster.Restart(0, time.Second),
			libcluster.Restart(time.Second, time.Millisecond), libcluster.Restart(time.Second, 25*time.Hour),
		} {
			require.ErrorContains(t, t.app("a").Run(t.Context(), untilStopped, option), "libcluster: Re")
		}
		require.Empty(t, t.Members(cluster))
	})
}
