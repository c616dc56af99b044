package libclustertest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// runWorkers begins a job whose workers note themselves and run f.
func (w *world) runWorkers(id string, f func(context.Context, int, libcluster.State) error, configure ...func(*libcluster.Config)) *job {
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
	inBubble(t, func(t *world) {
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
	inBubble(t, func(t *world) {
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
	inBubble(t, func(t *world) {
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
	inBubble(t, func(t *world) {
		runs := make([]int, 3)
		j := t.runWorkers("a", func(ctx context.Context, worker int, _ libcluster.State) error {
			runs[worker]++
			sleep(ctx, time.Duration(worker)*time.Minute)
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
