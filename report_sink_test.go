package libcluster_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster"
)

// pipe is what a log is written to. While it is full every Write blocks.
type pipe struct{ full atomic.Pointer[chan struct{}] }

func (p *pipe) Write(text []byte) (int, error) {
	if full := p.full.Load(); full != nil {
		<-*full
	}
	return len(text), nil
}

// fill has the pipe be full until it is drained.
func (p *pipe) fill() (drain func()) {
	full := make(chan struct{})
	p.full.Store(&full)
	return func() {
		p.full.Store(nil)
		close(full)
	}
}

// logsTo has an app log to the pipe from a level up.
func (p *pipe) logsTo(level zapcore.Level) func(*libcluster.Config) {
	encoder := zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())
	return func(c *libcluster.Config) {
		c.Logger = zap.New(zapcore.NewCore(encoder, zapcore.AddSync(p), level))
	}
}

// blockedFor is how long the log's sink is blocked.
const blockedFor = 20 * time.Second

// blocked is a cluster of three of which the first, who coordinates if any does, logs
// into a pipe that is full now. Of the tests' times go by virtual time, that there is a
// blocked sink must not show in any.
type blocked struct {
	*memory
	a, b, c *application
	config  []func(*libcluster.Config) // of one that logs into the full pipe, too
	start   time.Time
}

func (x *blocked) apps() []*application { return []*application{x.a, x.b, x.c} }

// until returns how long it has taken until all is so.
func (x *blocked) until(so func() bool) time.Duration {
	for !so() {
		if time.Since(x.start) > time.Minute {
			return time.Since(x.start)
		}
		wait(10 * time.Millisecond)
	}
	return time.Since(x.start)
}

// haveTotal reports whether each app has been told a place of so many.
func haveTotal(total int, apps ...*application) bool {
	for _, a := range apps {
		if last := a.last(); !last.Active() || last.Total != total {
			return false
		}
	}
	return true
}

// sinkTroubles are what may happen while the sink is blocked. Each returns how long it
// has taken, and for how long it may.
var sinkTroubles = []struct {
	name string
	most time.Duration
	do   func(x *blocked) time.Duration
}{
	{"an instance is cut off and told index -1", 6500 * time.Millisecond, func(x *blocked) time.Duration {
		x.Cut("a")
		return x.until(func() bool { return !x.a.last().Active() })
	}},
	{"the record goes and the instance is told index -1 and rejoins", 5 * time.Second, func(x *blocked) time.Duration {
		told := len(x.a.told())
		x.Expire(cluster, "a")
		return x.until(func() bool { return len(x.a.told()) > told+1 && haveTotal(3, x.apps()...) })
	}},
	{"another one joins", time.Second, func(x *blocked) time.Duration {
		x.join("d", mode(x.a.Mode()))
		return x.until(func() bool { return haveTotal(4, x.apps()...) })
	}},
	{"another one joins, whose sink is blocked too", time.Second, func(x *blocked) time.Duration {
		x.join("d", x.config...)
		return x.until(func() bool { return haveTotal(4, x.apps()...) })
	}},
	{"a foreign key is written, and another one joins", time.Second, func(x *blocked) time.Duration {
		x.Put(cluster, "foreign", []byte("garbage"))
		wait(0)
		x.join("d", mode(x.a.Mode()))
		return x.until(func() bool { return haveTotal(4, x.apps()...) })
	}},
	{"the instance leaves", 1500 * time.Millisecond, func(x *blocked) time.Duration {
		require.NoError(x, x.a.Leave(x.within(3*time.Second)))
		require.False(x, x.a.last().Active())
		left := time.Since(x.start)
		require.LessOrEqual(x, x.until(func() bool { return haveTotal(2, x.b, x.c) }), 1500*time.Millisecond)
		return left
	}},
	{"the instance leaves with a context of its own that ends", 3500 * time.Millisecond, func(x *blocked) time.Duration {
		x.Cut("a")
		wait(2 * time.Second)
		require.Error(x, x.a.Leave(x.within(time.Second)))
		require.False(x, x.a.last().Active())
		return time.Since(x.start)
	}},
	{"joining is given up", 7 * time.Second, func(x *blocked) time.Duration {
		x.Cut("d")
		d := x.app("d", x.config...)
		require.Error(x, d.Join(x.within(3*time.Second)))
		return time.Since(x.start)
	}},
}

// Run with -v it prints what was measured: a table of what a blocked sink costs.
func TestBlockedLogSinkHoldsUpNothing(t *testing.T) {
	for _, trouble := range sinkTroubles {
		t.Run(strings.ReplaceAll(trouble.name, " ", "_"), func(t *testing.T) {
			for _, m := range rangeModes {
				for _, level := range []zapcore.Level{zap.InfoLevel, zap.DebugLevel} {
					t.Run(fmt.Sprintf("%v/%v", m, level), func(t *testing.T) {
						inMemory(t, func(w *memory) {
							var p pipe
							x := &blocked{memory: w, config: []func(*libcluster.Config){mode(m), p.logsTo(level)}}
							x.a, x.b, x.c = w.join("a", x.config...), w.join("b", mode(m)), w.join("c", mode(m))
							alone := neverTwoAct(x.apps()...)
							wait(time.Minute)
							drain := p.fill()
							drained := time.AfterFunc(blockedFor, drain)
							defer drained.Stop()
							w.Cleanup(func() { time.Sleep(blockedFor) })
							x.start = time.Now()
							took := trouble.do(x)
							w.Logf("%-62s %-10v %-6v %8v", trouble.name, m, level, took.Round(10*time.Millisecond))
							require.LessOrEqual(w, took, trouble.most)
							wait(blockedFor)
							if m == libcluster.ModeExclusive {
								require.Empty(w, alone(), "two have acted on the same index")
							}
						})
					})
				}
			}
		})
	}
}

// neverTwoAct returns what tells, from what the apps have been told, on which indexes two
// have acted at once.
func neverTwoAct(apps ...*application) func() []string {
	type span struct {
		app      *application
		from, to time.Time
		state    libcluster.State
	}
	return func() (overlaps []string) {
		var spans []span
		for _, a := range apps {
			told := a.told()
			for i, c := range told {
				end := time.Now().Add(time.Hour)
				if i+1 < len(told) {
					end = told[i+1].at
				}
				if c.Active() {
					spans = append(spans, span{a, c.at, end, c.State})
				}
			}
		}
		for i, s := range spans {
			for _, o := range spans[:i] {
				same := s.state.Index < o.state.Index+o.state.Workers && o.state.Index < s.state.Index+s.state.Workers
				if s.app != o.app && s.from.Before(o.to) && o.from.Before(s.to) && (same || s.state.Total != o.state.Total) {
					overlaps = append(overlaps, fmt.Sprintf("%v as %d of %d and %v as %d of %d",
						s.app, s.state.Index, s.state.Total, o.app, o.state.Index, o.state.Total))
				}
			}
		}
		return overlaps
	}
}

func TestStuckApplicationIsLetGoThoughTheSinkIsBlocked(t *testing.T) {
	inMemory(t, func(w *memory) {
		var p pipe
		stuck := make(chan struct{})
		a := w.join("a", exclusive, p.logsTo(zap.InfoLevel), func(c *libcluster.Config) {
			c.DrainTimeout = 5 * time.Second
			c.OnStuck = func() { close(stuck) }
		})
		b := w.join("b", exclusive)
		wait(time.Second)
		release := a.doesNotStop()
		defer release()
		defer p.fill()()
		start := time.Now()
		joined := make(chan error, 1)
		c := w.app("c", exclusive)
		go func() { joined <- c.Join(w.Context()) }()
		<-stuck
		require.Less(t, time.Since(start), 6*time.Second)
		require.NoError(t, <-joined)
		require.Less(t, time.Since(start), 30*time.Second, "the others go on when its deadline must have passed")
		wait(time.Second)
		require.True(t, b.State().Active())
		require.NoError(t, c.Leave(w.Context()))
	})
}

// OnStuck is the application's, and may hang.
func TestOnStuckThatHangsHoldsUpNothing(t *testing.T) {
	inMemory(t, func(w *memory) {
		hangs := make(chan struct{})
		a := w.join("a", exclusive, func(c *libcluster.Config) {
			c.DrainTimeout = 5 * time.Second
			c.OnStuck = func() { <-hangs }
		})
		release := a.doesNotStop()
		c := w.app("c", exclusive)
		require.NoError(t, c.Join(w.within(time.Minute)))
		release()
		a.inCallback(nil)
		wait(time.Second)
		require.True(t, a.State().Active(), "it has stopped, and is back")
		require.NoError(t, a.Leave(w.Context()))
		require.NoError(t, c.Leave(w.Context()))
		close(hangs)
	})
}

func TestLinesOfALeftClusterAreWrittenWhenLeaveReturns(t *testing.T) {
	inMemory(t, func(w *memory) {
		var l logs
		a := w.join("a", l.configure)
		require.NoError(t, a.Leave(w.Context()))
		lines := l.FilterMessage("re-balanced").All()
		require.NotEmpty(t, lines)
		require.EqualValues(t, -1, lines[len(lines)-1].ContextMap()["index"])
	})
}

func TestSinkThatHangsForEverLeavesOneGoroutineBehind(t *testing.T) {
	inMemory(t, func(w *memory) {
		var p pipe
		drain := p.fill()
		for range 3 {
			a := w.app("a", p.logsTo(zap.DebugLevel))
			before := countGoroutines("internal/outlet.")
			for range 3 {
				require.NoError(t, a.Join(w.Context()))
				require.NoError(t, a.Leave(w.Context()))
			}
			synctest.Wait()
			require.Equal(t, before+1, countGoroutines("internal/outlet."), "one for each Cluster")
		}
		drain()
		synctest.Wait()
		require.Zero(t, countGoroutines("internal/outlet."))
	})
}

// countGoroutines counts those that a function of this name has started.
func countGoroutines(name string) int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), "created by github.com/libcluster/libcluster/"+name)
}
