package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/status"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
	"github.com/libcluster/libcluster/libclustertest"
)

func logger(core zapcore.Core) func(*libcluster.Config) {
	return func(c *libcluster.Config) { c.Logger = zap.New(core) }
}

func TestRunEndsWithTheFunctionsError(t *testing.T) {
	inMemory(t, func(t *memory) {
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
	inMemory(t, func(t *memory) {
		j := t.run("a", func(ctx context.Context, _ libcluster.State) error {
			if !libcluster.Sleep(ctx, time.Minute) {
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

func TestWhateverAFunctionReturnsAfterItsContextHasEndedMeansThatItHasStopped(t *testing.T) {
	for name, c := range map[string]struct {
		f      func(ctx context.Context) error
		logged string
	}{
		"nil":           {func(context.Context) error { return nil }, ""},
		"error":         {func(ctx context.Context) error { return ctx.Err() }, ""},
		"wrapped error": {func(ctx context.Context) error { return fmt.Errorf("query: %w", ctx.Err()) }, ""},
		"cause":         {context.Cause, ""},
		"gRPC's": {
			func(ctx context.Context) error { return status.FromContextError(ctx.Err()).Err() },
			"rpc error: code = Canceled desc = context canceled",
		},
		"a database's": {
			func(context.Context) error { return errors.New("pq: canceling statement due to user request") },
			"pq: canceling statement due to user request",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, 2} { // functions at the same time
				inMemory(t, func(t *memory) {
					core, logs := observer.New(zapcore.WarnLevel)
					j := t.runWorkers("b", func(ctx context.Context, _ int, _ libcluster.State) error {
						<-ctx.Done()
						return c.f(ctx)
					}, workers(n), logger(core))
					t.join("a")
					require.Equal(t, fmt.Sprintf("1/%d", n+1), j.place(), "it goes on")
					require.Len(t, j.workers(), n)
					wait(time.Minute)
					require.NoError(t, j.end())
					told := logs.FilterMessageSnippet("after its context has ended").All()
					for _, entry := range told {
						require.Equal(t, c.logged, entry.ContextMap()["error"])
					}
					if c.logged == "" {
						require.Empty(t, told)
					} else {
						require.Len(t, told, 2, "one line for each of the two stops")
						if n > 1 {
							require.EqualValues(t, n-1, told[1].ContextMap()["unsaid"])
						}
					}
				})
			}
		})
	}
}

// Of many functions that return at once, in one change, one line is enough.
func TestPartitionsThatEndTogetherAreOneLine(t *testing.T) {
	inMemory(t, func(t *memory) {
		core, logs := observer.New(zapcore.WarnLevel)
		a := t.app("a", mode(libcluster.ModeCooperative), logger(core))
		ended := make(chan error, 1)
		ctx, end := context.WithCancel(t.Context())
		go func() {
			ended <- a.RunPartitions(ctx, func(ctx context.Context, p libcluster.Partition) error {
				if p.Number < 8 {
					return nil
				}
				<-ctx.Done()
				return errors.New("canceling statement due to user request")
			})
		}()
		wait(time.Minute)
		require.Equal(t, 1, logs.FilterMessageSnippet("is idle until it moves").Len())
		end()
		require.NoError(t, <-ended)
		require.Equal(t, 1, logs.FilterMessageSnippet("after its context has ended").Len())
	})
}

// A primary that had to stop waits for its next turn, whatever its function has returned.
func TestPrimaryThatFailsWhileItStopsWaitsForItsNextTurn(t *testing.T) {
	inMemory(t, func(t *memory) {
		j := t.runPrimary("b", func(ctx context.Context, _ libcluster.State) error {
			<-ctx.Done()
			return errors.New("canceling statement due to user request")
		})
		a := t.join("a")
		require.Equal(t, "1/2", j.place())
		require.NoError(t, a.Leave(t.Context()))
		wait(time.Second)
		require.Contains(t, j.log(), "told 0/1, run 0/1, end (the cluster has re-balanced), told 1/2, told 0/1, run 0/1")
	})
}

func TestErrorOfAContextWhileItsOwnHasNotEndedIsAFailure(t *testing.T) {
	inMemory(t, func(t *memory) {
		j := t.run("a", func(context.Context, libcluster.State) error { return context.Canceled })
		require.ErrorIs(t, j.result(), context.Canceled)
	})
}

func TestRunEndsWhenTheIDIsTaken(t *testing.T) {
	inMemory(t, func(t *memory) {
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
	inMemory(t, func(t *memory) {
		j := t.run("a", untilStopped)
		t.Intercept(func(ctx context.Context, _ libclustertest.Call) error { return gone(ctx) })
		t.Put(cluster, "b", []byte("1")) // ends the Next that was not intercepted
		wait(time.Hour)
		t.Intercept(nil)
		_, _, err := between.Join(t.Context(), t, libcluster.Registration{
			Key: "mailer", Env: "production", Member: libcluster.Member{ID: "a", Workers: 1}, Logger: zap.NewNop(),
			TTL: time.Minute, // longer than the attempt to join that still goes on
		})
		require.NoError(t, err)
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
		inMemory(t, func(w *memory) {
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
	inMemory(t, func(t *memory) {
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
		inMemory(t, func(t *memory) {
			j := t.run("a", slowly(time.Minute))
			require.ErrorContains(t, j.Leave(t.within(patience)), "a callback has not returned")
			require.Equal(t, libcluster.PhaseLeft, j.Phase())
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
	inMemory(t, func(t *memory) {
		a := t.join("a")
		require.ErrorIs(t, a.Run(t.Context(), untilStopped), libcluster.ErrJoined)
		j := t.run("b", untilStopped)
		require.ErrorIs(t, j.Run(t.Context(), untilStopped), libcluster.ErrJoined)
		require.ErrorIs(t, j.Join(t.Context()), libcluster.ErrJoined)
		require.Equal(t, "told 1/2, run 1/2", j.log(), "and changes nothing")
	})
}

func TestRunAgainAfterItHasEnded(t *testing.T) {
	inMemory(t, func(t *memory) {
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
	inMemory(t, func(t *memory) {
		require.ErrorIs(t, t.app("p", passive).Run(t.Context(), untilStopped), libcluster.ErrPassive)
	})
}

// Otherwise the process would end when the instance gets an assignment, or becomes the primary.
func TestRunWithoutAFunctionIsRefused(t *testing.T) {
	inMemory(t, func(t *memory) {
		ctx, a := t.Context(), t.app("a")
		for name, err := range map[string]error{
			"Run":           a.Run(ctx, nil),
			"RunWorkers":    a.RunWorkers(ctx, nil),
			"RunPrimary":    a.RunPrimary(ctx, nil),
			"RunPartitions": t.app("p", mode(libcluster.ModeCooperative)).RunPartitions(ctx, nil),
			"WithPrimary":   a.Run(ctx, untilStopped, libcluster.WithPrimary(nil)),
		} {
			require.ErrorContains(t, err, "is nil", name)
		}
		require.Empty(t, t.Members(cluster))
		require.Equal(t, libcluster.PhaseLeft, a.Phase())
	})
}

func TestRunThatEndsBeforeItHasJoinedSaysWhy(t *testing.T) {
	inMemory(t, func(t *memory) {
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
	inMemory(t, func(t *memory) {
		j := t.run("a", untilStopped)
		t.CutAll()
		start := time.Now()
		require.NoError(t, j.end(), "the function has ended well")
		require.LessOrEqual(t, time.Since(start), 11*time.Second)
	})
}

func TestRunOfAStaticClusterEndsWithItsWork(t *testing.T) {
	inMemory(t, func(t *memory) {
		j := t.run("a", func(context.Context, libcluster.State) error { return nil },
			func(c *libcluster.Config) { c.Registry = libcluster.Static(4, 8) })
		require.NoError(t, j.result())
		require.Equal(t, "told 4/8, run 4/8, end (alive), told -1/7", j.log())
	})
}

func TestGoexitInTheFunctionEndsRunsGoroutineToo(t *testing.T) {
	inMemory(t, func(t *memory) {
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
	inMemory(t, func(t *memory) {
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
