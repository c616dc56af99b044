package libcluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
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

const (
	// longestTTL is the longest that an app asks for, and longestGrant that a
	// registry grants: also how long a place is kept for one who returns.
	longestTTL   = 20 * time.Second
	longestGrant = 25 * time.Second
	// latest is how late a request may be.
	latest = 8 * time.Second
)

// world is what one seed makes: a registry, and apps that use it.
type world struct {
	*libclustertest.Registry
	steps   *rand.Rand // used by the seed's own goroutine only
	start   time.Time
	calm    chan struct{} // closed when nothing goes wrong any more
	running sync.WaitGroup

	mu         sync.Mutex // guards what follows and the apps; nobody waits while holding it
	weatherly  *rand.Rand
	apps       []*app
	backups    []backup
	ttl        time.Duration // of all apps; 0: each has its own
	oldPlans   []string
	plans      map[int64]libcluster.PlanText // the committed ones, by generation
	texts      map[int64]string              // of all plans, by generation
	generation int64                         // the greatest of any plan
	back       time.Time                     // when the plan was last put back, or the whole store
	lastStamp  int64
	acts       []acting // that are over
	checked    int      // how many of them had been checked at the last step
	lines      []string
	broken     string
	counts     map[string]int
}

// backup is a snapshot, and whether anybody had a place in it.
type backup struct {
	libclustertest.Snapshot
	held bool
}

// ttls are what apps ask for.
var ttls = []time.Duration{2 * time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second, longestTTL}

func newWorld(seed uint64) *world {
	w := &world{
		Registry:  libclustertest.New(),
		steps:     rand.New(rand.NewPCG(seed, 1)),
		weatherly: rand.New(rand.NewPCG(seed, 2)),
		start:     time.Now(),
		calm:      make(chan struct{}),
		plans:     map[int64]libcluster.PlanText{},
		texts:     map[int64]string{},
		counts:    map[string]int{},
	}
	w.Intercept(w.intercept)
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
	if *exclusiveSeed > 0 {
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

// at is a time as acting has it: finer than the clock, so that what happens at one
// instant of virtual time has its order too.
func (w *world) at(t time.Time) int64 { return t.Sub(w.start).Nanoseconds() * 1000 }

// stamp is now, and later than everything before.
func (w *world) stamp() int64 {
	w.lastStamp = max(w.lastStamp+1, w.at(time.Now()))
	return w.lastStamp
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
		w.sample()
		w.checkOverlaps()
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

// backWithin is how soon after all faults have ended everybody is active again. What
// was under way may yet make a record that nobody renews, which expires within a TTL,
// and then its member is waited for by a clock that may be slow by a tenth. The rest
// is for joining again, and for the coordinator to be replaced.
func backWithin(granted, asked time.Duration) time.Duration {
	return latest + granted + libcluster.UntilOver(libcluster.Window(asked))*10/9 + 5*time.Second
}

// settle ends all faults, and wants everybody back.
func (w *world) settle() {
	w.locked(func() {
		w.say("faults end")
		close(w.calm)
		w.HealAll()
		for _, a := range w.apps {
			a.sky, a.slow, a.doom = weather{}, nil, nil
		}
	})
	bound := backWithin(longestGrant, longestTTL)
	for began := time.Now(); !w.isBack() && time.Since(began) < bound; {
		w.rest(time.Second)
	}
	w.locked(func() {
		for _, a := range w.apps {
			if a.shouldBeActive() && !a.State().Active() {
				w.fail("%s is not back within %v: %v, %v", a, bound, a.State(), a.Err())
			}
		}
	})
	w.rest(bound) // what else was under way
	w.locked(func() {
		var generations []int64
		for _, a := range w.apps {
			s := a.State()
			if !a.shouldBeActive() {
				continue
			}
			generations = append(generations, s.Generation)
			switch {
			case !s.Active():
				w.fail("%s was back and is not any more: %v, %v", a, s, a.Err())
			case s.Workers != a.wants:
				w.fail("%s has not the %d workers that it wants: %v", a, a.wants, s)
			case len(a.Waiting()) > 0:
				w.fail("%s waits for %v", a, a.Waiting())
			}
		}
		slices.Sort(generations)
		if n := len(slices.Compact(generations)); n > 1 {
			w.fail("there are %d generations", n)
		}
	})
}

func (w *world) isBack() (back bool) {
	w.locked(func() {
		back = !slices.ContainsFunc(w.apps, func(a *app) bool { return a.shouldBeActive() && !a.State().Active() })
	})
	return back
}

// end has everybody leave, and wants nothing left but the plan, and for a while what
// those who left have said. A goroutine that is left fails the bubble.
func (w *world) end() {
	w.locked(func() {
		for _, a := range w.apps {
			if !a.isCrashed() && a.inStay && !a.busy {
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
	w.rest(longestGrant + latest)
	left := w.survey()
	w.locked(func() {
		members := slices.DeleteFunc(left.Members, func(m libcluster.Recorded) bool { return m.Incarnation == "" })
		if len(members) > 0 || len(left.Drained) > 0 || left.Coordinator != nil {
			w.fail("something is left: %+v", left)
		}
		if a, b, found := findOverlap(w.acts); found {
			w.fail("%v, and %v", a, b)
		}
		if a, b, found := findStaleToken(w.acts); found {
			w.fail("%v, and later %v", a, b)
		}
	})
}

// survey is all that there is in the registry.
func (w *world) survey() libcluster.Survey {
	w.Intercept(nil)
	passive := libcluster.Registration{
		Key: "mailer", Env: "production", Passive: true, Mode: libcluster.Exclusive, Member: libcluster.Member{ID: "watcher", Workers: 1},
	}
	session, _, err := w.Join(context.Background(), passive)
	if err != nil {
		panic(err)
	}
	defer session.Close()
	survey, err := session.(libcluster.Planner).Survey(context.Background(), 0)
	if err != nil {
		panic(err)
	}
	return survey
}

// report is the story of a seed that has failed.
func (w *world) report() string {
	most := 150
	if *exclusiveSeed > 0 {
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
