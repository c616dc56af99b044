package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// observed has an instance log from a level up.
func observed(level zapcore.Level) (func(*libcluster.Config), *observer.ObservedLogs) {
	core, logs := observer.New(level)
	return func(c *libcluster.Config) { c.Logger = zap.New(core) }, logs
}

// at are the times of lines, in seconds since a moment.
func at(since time.Time, lines *observer.ObservedLogs) (seconds []int) {
	for _, line := range lines.All() {
		seconds = append(seconds, int(line.Time.Sub(since).Seconds()))
	}
	return seconds
}

func TestInstanceOfAWrongModeIsNotSaidToRejoin(t *testing.T) {
	for n := range 100 { // it is a race between Join, which leaves, and the instance
		m := rangeModes[1+n%2]
		inMemory(t, func(w *memory) {
			log, logs := observed(zap.InfoLevel)
			w.join("a")
			b := w.app("b", mode(m), log)
			require.ErrorAs(w, b.Join(w.within(time.Minute)), new(*libcluster.ModeError))
			synctest.Wait()
			require.Zero(w, logs.FilterMessageSnippet("rejoin").Len(), "%v", logs.All())
			require.LessOrEqual(w, logs.Len(), 1, "%v", logs.All())
		})
	}
}

func TestTroubleThatGoesOnIsLoggedAtGrowingIntervalsWithWhatWasNotSaid(t *testing.T) {
	inMemory(t, func(w *memory) {
		log, logs := observed(zap.WarnLevel)
		a := w.join("a", log)
		start := time.Now()
		w.Cut("a")
		wait(20 * time.Minute)
		lines := logs.FilterMessage("cannot join yet, will keep trying")
		times := at(start, lines)
		require.Len(w, times, 8, "after 0, 10, 30, 70, 150, 310, 610 and 910 s: %v", times)
		unsaid := int64(0)
		for i, line := range lines.All() {
			if i == 0 {
				continue
			}
			pause := line.Time.Sub(lines.All()[i-1].Time)
			least := min(10*time.Second<<(i-1), 5*time.Minute)
			require.GreaterOrEqual(w, pause, least)
			require.Less(w, pause, least+21*time.Second) // an attempt takes up to 20 s
			if least > 20*time.Second {
				n := line.ContextMap()["unsaid"].(int64)
				require.Greater(w, n, unsaid/2)
				unsaid = n
			}
		}
		w.Heal("a")
		wait(6 * time.Minute)
		require.NoError(w, a.Err())
		before := lines.Len()
		w.Cut("a")
		wait(30 * time.Second)
		require.Greater(w, logs.FilterMessage("cannot join yet, will keep trying").Len(), before, "it is new after a while")
	})
}

func TestOnlyTheCoordinatorWarnsOfAnInstanceThatHoldsUpTheCluster(t *testing.T) {
	inMemory(t, func(w *memory) {
		log, logs := observed(zap.InfoLevel)
		stop := make(chan struct{})
		w.join("a", exclusive, log)
		slow := w.join("slow", exclusive, log, func(c *libcluster.Config) { c.DrainTimeout = time.Hour })
		for n := range 10 {
			w.join(fmt.Sprint("b", n), exclusive, log)
		}
		slow.inCallback(func(s libcluster.State) {
			if !s.Active() {
				<-stop
			}
		})
		start := time.Now()
		c, joined := w.app("c", exclusive), make(chan error, 1)
		go func() { joined <- c.Join(w.Context()) }()
		wait(10 * time.Minute)
		waits := logs.FilterMessageSnippet("the cluster waits for")
		require.Equal(w, []int{1, 11, 31, 71, 151, 311}, at(start, waits), "%v", waits.All())
		for _, line := range waits.All() {
			require.Equal(w, "a", line.ContextMap()["instance"])
			require.Equal(w, zap.WarnLevel, line.Level)
			require.Equal(w, "slow", line.ContextMap()["for"])
		}
		close(stop)
		require.NoError(w, <-joined)
		wait(time.Second)
		require.Equal(w, 1, logs.FilterMessageSnippet("the cluster waits no longer").Len())
		require.NoError(w, c.Leave(w.Context()))
	})
}

// Each instance says what concerns it, and each cause four times at most in 100 s.
func TestChaosIsLoggedInFewLines(t *testing.T) {
	for _, m := range rangeModes {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				log, logs := observed(zap.WarnLevel)
				names := []string{"a", "b", "c", "d", "e"}
				for _, id := range names {
					w.join(id, mode(m), log)
				}
				random := rand.New(rand.NewPCG(1, 2))
				var mu sync.Mutex // guards random
				below := func(n int) int {
					mu.Lock()
					defer mu.Unlock()
					return random.IntN(n)
				}
				w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
					if below(4) == 0 {
						return errors.New("connection reset")
					}
					return call.Send(ctx)
				})
				for range 20 {
					id := names[below(len(names))]
					w.Cut(id)
					wait(time.Duration(below(8000)) * time.Millisecond)
					w.Heal(id)
					wait(time.Second)
				}
				causes := map[string]int{}
				for _, line := range logs.All() {
					causes[fmt.Sprint(line.ContextMap()["instance"], ": ", line.Message)]++
				}
				t.Logf("%d lines: %v", logs.Len(), causes)
				for cause, times := range causes {
					require.LessOrEqual(w, times, 4, cause)
				}
			})
		})
	}
}

// The registry is away for 20 s of each minute, which is longer than a TTL.
func TestAnHourOfAFlappingRegistryIsLoggedInFewLines(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				log, logs := observed(zap.InfoLevel)
				for _, id := range []string{"a", "b", "c"} {
					w.join(id, mode(m), log)
				}
				wait(time.Minute)
				logs.TakeAll()
				for range 60 {
					w.CutAll()
					wait(20 * time.Second)
					w.HealAll()
					wait(40 * time.Second)
				}
				causes := map[string]int{}
				for _, line := range logs.All() {
					cause := fmt.Sprint(line.Level, ": ", line.ContextMap()["instance"], ": ", line.Message)
					causes[cause]++
					// Which instance has what trouble is left to chance. Trouble that is new after five
					// minutes without gives four lines in seven minutes at most.
					most := 4 * 9
					if line.Level == zap.InfoLevel {
						most = 4 * 60 // without an assignment, and when each of the three is back
						require.Equal(w, "re-balanced", line.Message)
					}
					require.LessOrEqual(w, causes[cause], most, cause)
				}
				t.Logf("%d lines: %v", logs.Len(), causes)
			})
		})
	}
}

// At Debug a change is one line for each instance, whatever the number of members.
func TestAChangeIsOneLineAtDebug(t *testing.T) {
	const all = 24
	for _, m := range rangeModes {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				log, logs := observed(zap.DebugLevel)
				for n := range all {
					w.join(fmt.Sprintf("node%02d", n), mode(m), log)
				}
				wait(time.Minute)
				before := len(logs.FilterLevelExact(zap.DebugLevel).All())
				w.join("x", mode(m))
				wait(time.Minute)
				lines := logs.FilterLevelExact(zap.DebugLevel).All()[before:]
				t.Logf("%d lines", len(lines))
				require.LessOrEqual(w, len(lines), all+10)
				members := 0
				for _, line := range lines {
					if text, ok := line.ContextMap()["members"].(string); ok {
						members++
						require.Less(w, len(text), 1000)
						require.Contains(w, text, "node00 [0]")
						require.Contains(w, text, "and 15 more")
					}
				}
				require.Equal(w, all, members)
			})
		})
	}
}
