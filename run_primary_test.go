package libcluster_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
)

// runPrimary begins a job that runs f while it is the primary.
func (w *memory) runPrimary(id string, f func(context.Context, libcluster.State) error, configure ...func(*libcluster.Config)) *job {
	w.Helper()
	j := w.job(id, configure...)
	j.begin(func(ctx context.Context) error { return j.RunPrimary(ctx, j.noting(f)) })
	return j
}

func TestPrimaryHandsOverAndGoesOnWhileItStaysThePrimary(t *testing.T) {
	inMemory(t, func(t *memory) {
		b := t.runPrimary("b", untilStopped)
		require.Equal(t, "told 0/1, run 0/1", b.log())
		c := t.runPrimary("c", untilStopped)
		require.Equal(t, "told 1/2", c.log(), "it waits")
		require.Equal(t, "told 0/2", b.log(), "another total stops nobody")
		require.NoError(t, b.SetWorkers(t.Context(), 3))
		synctest.Wait()
		require.Equal(t, "told 0/4", b.log(), "nor another number of workers")
		require.Equal(t, "told 3/4", c.log())

		a := t.runPrimary("a", untilStopped)
		require.Equal(t, "told 0/5, run 0/5", a.log())
		require.Equal(t, "end (the cluster has re-balanced), told 1/5", b.log())
		require.NoError(t, a.end())
		synctest.Wait()
		require.Equal(t, "told 0/4, run 0/4", b.log())
		require.NoError(t, b.end())
		synctest.Wait()
		require.Equal(t, "end (that is enough), told -1/1", b.log())
		require.Equal(t, "told 4/5, told 3/4, told 0/1, run 0/1", c.log())
	})
}

func TestPrimaryWithAPlanStaysThePrimaryWhenOneOfASmallerIDComes(t *testing.T) {
	inMemory(t, func(t *memory) {
		b := t.runPrimary("b", untilStopped, planned)
		wait(time.Second)
		a := t.runPrimary("a", untilStopped, planned)
		wait(time.Second)
		require.Equal(t, "told 0/1, run 0/1, told 0/2", b.log())
		require.Equal(t, "told 1/2", a.log())
	})
}

func TestRunPrimaryWarnsOnceThatNewcomersTakeTheLeadInDirectMode(t *testing.T) {
	for _, c := range []struct {
		name      string
		configure func(*libcluster.Config)
		warnings  int
	}{
		{"direct", func(*libcluster.Config) {}, 1},
		{"planned", planned, 0},
		{"exclusive", exclusive, 0},
		{"static", func(c *libcluster.Config) { c.Registry = libcluster.Static(0, 1) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, func(t *memory) {
				core, logs := observer.New(zapcore.WarnLevel)
				a := t.app("a", c.configure, logger(core))
				for range 3 {
					require.NoError(t, a.RunPrimary(t.Context(), func(context.Context, libcluster.State) error { return nil }))
				}
				require.Len(t, logs.FilterMessageSnippet("Config.Mode").All(), c.warnings)
			})
		})
	}
}

func TestPrimaryThatIsFencedAndBackIsStoppedInBetween(t *testing.T) {
	inMemory(t, func(t *memory) {
		j := t.runPrimary("a", untilStopped)
		wait(time.Minute)
		t.Expire(cluster, "a")
		wait(2 * time.Second)
		log := j.log()
		require.Contains(t, log, "told 0/1, run 0/1, end (the record has gone from the registry")
		require.Contains(t, log, "), told -1/0, told 0/1, run 0/1")
	})
}

func TestPrimaryThatHasFinishedLeaves(t *testing.T) {
	inMemory(t, func(t *memory) {
		finish := func(ctx context.Context, _ libcluster.State) error {
			libcluster.Sleep(ctx, time.Minute)
			return nil
		}
		a, b := t.runPrimary("a", finish), t.runPrimary("b", finish)
		require.NoError(t, a.result())
		require.NoError(t, b.result())
		require.Equal(t, "told 0/1, run 0/1, told 0/2, end (alive), told -1/1", a.log())
		require.Equal(t, "told 1/2, told 0/1, run 0/1, end (alive), told -1/0", b.log())
	})
}

func TestCallbackThatHangsDoesNotKeepThePrimaryFromBeingStopped(t *testing.T) {
	for name, over := range map[string]struct {
		after time.Duration // the callback has begun, at the latest
		how   func(t *memory, j *job)
	}{
		"at the deadline": {window(libcluster.DefaultTTL), func(t *memory, _ *job) { t.Cut("a") }},
		"by its record":   {0, func(t *memory, _ *job) { t.Expire(cluster, "a") }},
		"by leaving":      {0, func(t *memory, j *job) { _ = j.Leave(t.within(time.Millisecond)) }},
		"by its context":  {0, func(_ *memory, j *job) { j.cancel(errStop) }},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *memory) {
				returns := make(chan struct{})
				var stopped atomic.Pointer[time.Time] // what a timer ends is ordered by virtual time alone
				j := t.job("a")
				j.begin(func(ctx context.Context) error {
					return j.RunPrimary(ctx, func(ctx context.Context, _ libcluster.State) error {
						<-ctx.Done()
						now := time.Now()
						stopped.Store(&now)
						return nil
					})
				})
				j.inCallback(func(libcluster.State) { <-returns })
				t.Put(cluster, "b", []byte("1"))
				wait(time.Minute)
				require.Nil(t, stopped.Load(), "renewed, it goes on")
				start := time.Now()
				over.how(t, j)
				wait(over.after)
				require.NotNil(t, stopped.Load())
				require.LessOrEqual(t, stopped.Load().Sub(start), over.after)
				j.inCallback(nil)
				close(returns)
			})
		})
	}
}

func TestPrimaryThatIsFencedAndBackDuringACallbackIsRunAgain(t *testing.T) {
	inMemory(t, func(t *memory) {
		j := t.runPrimary("a", untilStopped)
		j.inCallback(func(s libcluster.State) {
			j.note("told %d/%d", s.Index, s.Total)
			time.Sleep(time.Minute)
		})
		t.Put(cluster, "b", []byte("1"))
		wait(time.Second)
		t.Expire(cluster, "a")
		wait(2 * time.Second)
		require.Equal(t, "0/2", j.place(), "it is back")
		log := j.log()
		require.Contains(t, log, "told 0/1, run 0/1, told 0/2, end (the record has gone from the registry")
		require.NotContains(t, log, "told -1", "the callback has not returned")
		wait(time.Hour)
		require.Equal(t, "told -1/1, told 0/2, run 0/2", j.log())
	})
}

// withPrimary is a job whose workers have something run besides while it is the primary.
func (w *memory) withPrimary(id string, f func(context.Context, libcluster.State) error, configure ...func(*libcluster.Config)) (*job, *journal) {
	w.Helper()
	j, d := w.job(id, configure...), &journal{}
	worker := func(ctx context.Context, worker int, _ libcluster.State) error {
		d.note("worker %d", worker)
		<-ctx.Done()
		d.note("worker %d ends", worker)
		return nil
	}
	leads := func(ctx context.Context, s libcluster.State) error {
		d.note("leads")
		defer d.note("leads no longer")
		return f(ctx, s)
	}
	j.begin(func(ctx context.Context) error { return j.RunWorkers(ctx, worker, libcluster.WithPrimary(leads)) })
	return j, d
}

func TestWorkersOfThePrimaryHaveItsTaskRunBesides(t *testing.T) {
	inMemory(t, func(w *memory) {
		b, atB := w.withPrimary("b", untilStopped)
		require.ElementsMatch(w, []string{"worker 0", "leads"}, strings.Split(atB.since(), ", "))
		c, atC := w.withPrimary("c", untilStopped)
		require.Equal(w, "worker 1", atC.since(), "another leads")
		require.Equal(w, "worker 0 ends, worker 0", atB.since(), "only the workers are to know of another total")
		a, atA := w.withPrimary("a", untilStopped)
		require.ElementsMatch(w, []string{"worker 0", "leads"}, strings.Split(atA.since(), ", "))
		stopped := strings.Split(atB.since(), ", ")
		require.ElementsMatch(w, []string{"worker 0 ends", "leads no longer", "worker 1"}, stopped)
		require.Equal(w, "worker 1", stopped[2], "all has stopped before anything runs under the next state")
		require.NoError(w, a.end())
		require.NoError(w, b.end())
		synctest.Wait()
		require.Contains(w, atC.since(), "leads")
		require.NoError(w, c.end())
	})
}

func TestWhatThePrimarysTaskReturns(t *testing.T) {
	broken := errors.New("broken")
	inMemory(t, func(w *memory) {
		a, at := w.withPrimary("a", func(context.Context, libcluster.State) error { return nil })
		require.Contains(w, at.since(), "leads no longer")
		w.join("b")
		require.Equal(w, "worker 0 ends, worker 0", at.since(), "its workers go on, and it does not lead twice in one term")
		first := w.join("0")
		at.since()
		require.NoError(w, first.Leave(w.Context()))
		synctest.Wait()
		require.Contains(w, at.since(), "leads no longer", "the next term is another one")
		require.NoError(w, a.end())
	})
	inMemory(t, func(w *memory) {
		a, at := w.withPrimary("a", func(context.Context, libcluster.State) error { return broken })
		require.ErrorIs(w, a.result(), broken)
		require.Contains(w, at.since(), "worker 0 ends")
	})
	inMemory(t, func(w *memory) {
		two := []libcluster.RunOption{libcluster.WithPrimary(untilStopped), libcluster.WithPrimary(untilStopped)}
		require.ErrorContains(w, w.app("a").Run(w.Context(), untilStopped, two...), "give it once")
		require.ErrorContains(w, w.app("a").RunPrimary(w.Context(), untilStopped, two[0]), "to Run, RunWorkers")
	})
}
