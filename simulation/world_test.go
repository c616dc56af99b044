package simulation

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// world is what one seed makes: a registry, and apps that use it.
type world struct {
	*libclustertest.Registry
	steps   *rand.Rand // used by the seed's own goroutine only
	start   time.Time
	calm    chan struct{} // closed when nothing goes wrong any more
	running sync.WaitGroup

	mu        sync.Mutex // guards what follows and the apps; nobody waits while holding it
	weatherly *rand.Rand
	apps      []*app
	past      history
	backups   []backup
	restores  int             // how often the store has gone back; once it has, owners says little
	owners    map[string]*app // who has written each record; nil: a stranger or a thief
	lines     []string
	broken    string
	counts    map[string]int
}

// backup is a snapshot and where it belongs in history.
type backup struct {
	libclustertest.Snapshot
	era      int
	revision int64
}

func newWorld(seed uint64) *world {
	w := &world{
		Registry:  libclustertest.New(),
		steps:     rand.New(rand.NewPCG(seed, 1)),
		weatherly: rand.New(rand.NewPCG(seed, 2)),
		start:     time.Now(),
		calm:      make(chan struct{}),
		owners:    map[string]*app{},
		counts:    map[string]int{},
	}
	w.Intercept(w.intercept)
	w.note()
	return w
}

func (w *world) locked(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) happened(kind string) { w.counts[kind]++ }

func (w *world) say(format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf("%12v  ", time.Since(w.start))+fmt.Sprintf(format, args...))
}

// trace notes what is of interest for one seed only.
func (w *world) trace(format string, args ...any) {
	if *oneSeed > 0 {
		w.locked(func() { w.say(format, args...) })
	}
}

// logger has an app's log in its world's lines.
func (w *world) logger(a *app) *zap.Logger {
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "m", LineEnding: " "})
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(lineWriter{a}), zap.DebugLevel))
}

type lineWriter struct{ a *app }

func (l lineWriter) Write(line []byte) (int, error) {
	l.a.w.trace("%s logs: %s", l.a, line)
	return len(line), nil
}

// fail notes the first promise that was broken.
func (w *world) fail(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
		w.say("BROKEN: %s", w.broken)
	}
}

func (w *world) note() {
	w.past.note(w.Revision(), func() []libcluster.Member { return w.Members(cluster) })
}

// tampered marks all incarnations of an ID but one.
func (w *world) tampered(id string, but *incarnation) {
	for _, a := range w.apps {
		if a.id != id || a.cfg.Passive {
			continue
		}
		if a.view != nil && a.view != but {
			a.view.tampered = true
		}
		if but == nil || but.a != a {
			a.rivals++
		}
	}
}

// draw returns a random time.
func (w *world) draw(most time.Duration) time.Duration {
	return time.Duration(w.steps.Int64N(int64(most)))
}

// simulate is the life of one world. It returns what has happened, and which
// promise was broken, if any.
func simulate(t *testing.T, seed uint64) (w *world) {
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed)
		w.populate()
		for range 100 + w.steps.IntN(60) {
			w.step()
			if w.rest(w.pause()) {
				break
			}
		}
		w.settle()
		w.end()
	})
	return w
}

// rest lets time pass and then checks every promise. It reports whether one is
// broken.
func (w *world) rest(d time.Duration) (broken bool) {
	time.Sleep(d)
	synctest.Wait()
	w.locked(func() {
		w.happened("step")
		w.note()
		for _, a := range w.apps {
			a.check()
		}
		broken = w.broken != ""
	})
	return broken
}

// pause draws the time between two steps: often none at all, sometimes long enough
// for leases to expire.
func (w *world) pause() time.Duration {
	switch n := w.steps.IntN(100); {
	case n < 25:
		return 0
	case n < 60:
		return w.draw(200 * time.Millisecond)
	case n < 90:
		return w.draw(2 * time.Second)
	default:
		return w.draw(12 * time.Second)
	}
}

// backWithin is how soon after all faults have ended everybody is active again:
// the longest wait between two attempts, and what goes wrong meanwhile. One that
// has sat an outage out learns with its next heartbeat what has become of it.
func backWithin(ttl time.Duration) time.Duration { return 2*time.Second + ttl/6 }

// settle ends all faults, and wants everybody back.
func (w *world) settle() {
	w.locked(func() {
		w.say("faults end")
		close(w.calm)
		w.HealAll()
		for _, a := range w.apps {
			a.sky, a.slow = weather{}, nil
		}
	})
	w.rest(backWithin(longestTTL))
	w.locked(func() {
		for _, a := range w.apps {
			if a.shouldBeActive() && (a.Err() != nil || a.State().Active() == a.cfg.Passive) {
				w.fail("%s is not back: %v, %v", a, a.State(), a.Err())
			}
		}
	})
	w.rest(30*time.Second + longestTTL) // whatever was under way, and leases that nobody renews
	w.locked(func() {
		for _, a := range w.apps {
			s := a.State()
			switch {
			case !a.shouldBeActive() || a.cfg.Passive:
				continue
			case s.Generation != w.Revision():
				w.fail("%s is not up to date in %d: %v", a, w.Revision(), s)
			case s.Workers != a.wants:
				w.fail("%s has not the %d workers that it wants: %v", a, a.wants, s)
			}
		}
	})
}

// end has everybody leave, and wants nothing left but what strangers have put. A
// goroutine that is left fails the bubble.
func (w *world) end() {
	w.locked(func() {
		for _, a := range w.apps {
			if a.isCrashed() {
				continue
			}
			if a.inStay && !a.busy {
				a.leave(time.Minute)
			}
		}
	})
	w.rest(time.Minute)
	w.locked(func() {
		for _, a := range w.apps {
			if a.isCrashed() {
				a.leave(0)
			}
		}
	})
	w.running.Wait()
	synctest.Wait()
	w.locked(func() {
		for _, a := range w.apps {
			if w.owners[a.id] == a && w.Holds(cluster, a.id) {
				w.fail("%s has left its record behind", a)
			}
		}
	})
}

// report is the story of a seed that has failed.
func (w *world) report() string {
	most := 150
	if *oneSeed > 0 {
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

func (w *world) countInto(total map[string]int) {
	for _, kind := range sorted(maps.Keys(w.counts)) {
		total[kind] += w.counts[kind]
	}
}
