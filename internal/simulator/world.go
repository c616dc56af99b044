// Package simulator is what the simulations in virtual time have in common: a world
// that a seed makes, the weather that calls meet on their way to its registry, and
// running many seeds. What the apps in it do, and what is promised to them, each
// simulation knows for itself.
package simulator

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster/libclustertest"
)

// World is what one seed makes: a registry, and what happens there. It is made in a
// bubble of testing/synctest. A simulation adds its apps, which the world's lock
// guards, too.
type World struct {
	*libclustertest.Registry
	Steps   *rand.Rand    // used by the seed's own goroutine only
	Start   time.Time     // when it was made
	Calm    chan struct{} // closed when nothing goes wrong any more
	Running sync.WaitGroup

	verbose bool

	mu      sync.Mutex // guards what follows and the apps; nobody waits while holding it
	weather *rand.Rand
	lines   []string
	broken  string
	counts  map[string]int
}

// NewWorld makes a seed's world. A verbose one also notes what is of interest only to
// one who looks at one seed.
func NewWorld(seed uint64, verbose bool) *World {
	registry := libclustertest.New()
	registry.Seed(seed)
	return &World{
		Registry: registry,
		Steps:    rand.New(rand.NewPCG(seed, 1)),
		weather:  rand.New(rand.NewPCG(seed, 2)),
		Start:    time.Now(),
		Calm:     make(chan struct{}),
		verbose:  verbose,
		counts:   map[string]int{},
	}
}

// Locked calls f with the world's lock held.
func (w *World) Locked(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// Happened counts what has happened. The caller holds the lock, as of Say and Fail.
func (w *World) Happened(kind string) { w.counts[kind]++ }

// Say adds a line to the story of the seed.
func (w *World) Say(format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf("%12v  ", time.Since(w.Start))+fmt.Sprintf(format, args...))
}

// Fail notes the first promise that was broken.
func (w *World) Fail(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
		w.Say("BROKEN: %s", w.broken)
	}
}

// Broken is the promise that was broken; empty: none.
func (w *World) Broken() string { return w.broken }

// Trace adds a line if the world is verbose. The caller does not hold the lock.
func (w *World) Trace(format string, args ...any) {
	if w.verbose {
		w.Locked(func() { w.Say(format, args...) })
	}
}

// Logger has an app's log among the lines, if the world is verbose; otherwise it is nil.
func (w *World) Logger(app fmt.Stringer) *zap.Logger {
	if !w.verbose {
		return nil
	}
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "m", LineEnding: " "})
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(lineWriter{w, app}), zap.DebugLevel))
}

type lineWriter struct {
	w   *World
	app fmt.Stringer
}

func (l lineWriter) Write(line []byte) (int, error) {
	l.w.Trace("%s logs: %s", l.app, line)
	return len(line), nil
}

// Draw returns a random time, shorter than most.
func (w *World) Draw(most time.Duration) time.Duration {
	return time.Duration(w.Steps.Int64N(int64(most)))
}

// Rest is a step: time passes, and when nothing moves any more all promises are
// checked. It reports whether one is broken.
func (w *World) Rest(d time.Duration, check func()) (broken bool) {
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Happened("step")
	check()
	return w.broken != ""
}

// Pause draws the time between two steps: often none at all, sometimes long enough
// for leases to expire.
func (w *World) Pause() time.Duration {
	switch n := w.Steps.IntN(100); {
	case n < 25:
		return 0
	case n < 60:
		return w.Draw(200 * time.Millisecond)
	case n < 90:
		return w.Draw(2 * time.Second)
	default:
		return w.Draw(12 * time.Second)
	}
}

// History is a hash of all that the world has noted. Two lives of a verbose world with
// the same one were the same, event by event.
func (w *World) History() string {
	h := sha256.New()
	for _, line := range w.lines {
		fmt.Fprintln(h, line)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Report is the story of a seed that has failed, up to where it did.
func (w *World) Report() string {
	most := 150
	if w.verbose {
		most = len(w.lines)
	}
	lines := w.lines
	for i, line := range lines {
		if strings.Contains(line, "BROKEN") {
			lines = lines[max(0, i-most) : i+1]
			break
		}
	}
	return strings.Join(lines, "\n")
}
