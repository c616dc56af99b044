package libcluster_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
	"github.com/libcluster/libcluster/internal/simulator"
	"github.com/libcluster/libcluster/libclustertest"
)

const (
	// longestTTL is the longest that an app asks for, and longestGrant that a
	// registry grants: also how long a place is kept for one who returns.
	longestTTL   = 20 * time.Second
	longestGrant = 25 * time.Second
)

// scheme is what all members of a cluster must have in common.
type scheme struct {
	mode       libcluster.Mode
	partitions int // in mode cooperative
}

func (s scheme) cooperates() bool { return s.mode == libcluster.ModeCooperative }

// world is what one seed makes: a registry, and apps that use it.
type world struct {
	*simulator.World
	scheme
	styled    bool // each app has a style of its own
	primaries bool // and acts as the primary

	// Guarded by its lock.
	apps       []*app
	backups    []backup
	ttl        time.Duration // of all apps; 0: each has its own
	oldPlans   []string
	plans      map[int64]libcluster.PlanText // by generation; in exclusive mode the committed ones
	texts      map[int64]string              // of all plans, by generation
	generation int64                         // the greatest of any plan
	back       time.Time                     // when the plan was last put back, or the whole store
	lastStamp  int64
	acts       []acting          // that are over
	checked    int               // how many of them had been checked at the last step
	tokens     map[place]given   // the greatest of each partition so far
	fences     map[keptFence]int // that may still stand; against so many plans each was checked
}

// place is a partition, and of how many.
type place struct{ index, total int }

// given is a token of a partition, and the app that has begun with that token.
type given struct {
	token int64
	to    *app
}

// backup is a snapshot, and whom its plan gives a place; nil if nobody has one.
type backup struct {
	libclustertest.Snapshot
	named []string
}

// ttls are what apps ask for.
var ttls = []time.Duration{2 * time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second, longestTTL}

func newWorld(seed uint64, verbose bool) *world {
	w := &world{
		World:  simulator.NewWorld(seed, verbose),
		scheme: scheme{mode: libcluster.ModeExclusive},
		styled: seed%2 == 0,
		plans:  map[int64]libcluster.PlanText{},
		texts:  map[int64]string{},
		tokens: map[place]given{},
		fences: map[keptFence]int{},
	}
	w.Intercept(w.intercept)
	return w
}

// at is a time as acting has it: finer than the clock, so that what happens at one
// instant of virtual time has its order too.
func (w *world) at(t time.Time) int64 { return t.Sub(w.Start).Nanoseconds() * 1000 }

// stamp is now, and later than everything before.
func (w *world) stamp() int64 {
	w.lastStamp = max(w.lastStamp+1, w.at(time.Now()))
	return w.lastStamp
}

// simulate is the life of one world. It returns what has happened, and which
// promise was broken, if any.
func simulate(t *testing.T, create func() *world) (w *world) {
	synctest.Test(t, func(*testing.T) {
		w = create()
		w.populate()
		for range 100 + w.Steps.IntN(60) {
			w.step()
			if w.rest(w.Pause()) {
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
	return w.Rest(d, func() {
		w.sample()
		w.checkOverlaps()
		w.checkFences()
	})
}

// backWithin is how soon after all faults have ended everybody is active again. What
// was under way may yet make a record that nobody renews, which expires within a TTL,
// and then its member is waited for by a clock that may be slow by a tenth. The rest
// is for joining again, and for the coordinator to be replaced.
func backWithin(granted, asked time.Duration) time.Duration {
	return simulator.Latest + granted + libcluster.UntilOver(libcluster.Window(asked))*10/9 + 5*time.Second
}

// settle ends all faults, and wants everybody back.
func (w *world) settle() {
	w.Locked(func() {
		w.Say("faults end")
		close(w.Calm)
		w.HealAll()
		for _, a := range w.apps {
			a.Sky, a.Slow, a.inside, a.doom = simulator.Weather{}, nil, nil, nil
			if a.cfg.Partitions != w.partitions {
				a.Crash() // it is no member of this cluster
			}
		}
	})
	undrain := func() {
		w.Locked(func() {
			for _, a := range w.apps {
				w.Delete(simulated, drainingKey+a.ID)
			}
		})
	}
	undrain()
	time.AfterFunc(simulator.Latest, undrain) // what an operator has asked for may be late
	// One that has crashed may be back under an ID that is new: then it may have to wait.
	bound := backWithin(longestGrant, longestTTL) + libcluster.LongestHold(longestTTL)
	for began := time.Now(); !w.isBack() && time.Since(began) < bound; {
		w.rest(time.Second)
	}
	w.Locked(func() {
		for _, a := range w.apps {
			if a.shouldBeActive() && !a.hasItsShare() {
				w.Fail("%s is not back within %v: %v, %v", a, bound, a.State(), a.Err())
			}
		}
	})
	w.rest(bound) // what else was under way
	w.Locked(func() {
		var generations []int64
		for _, a := range w.apps {
			s := a.State()
			if !a.shouldBeActive() {
				continue
			}
			generations = append(generations, s.Generation)
			switch {
			case !a.hasItsShare():
				w.Fail("%s was back and is not any more: %v, %v", a, s, a.Err())
			case s.Workers != a.Wants:
				w.Fail("%s has not the %d workers that it wants: %v", a, a.Wants, s)
			case len(a.Blockers()) > 0:
				w.Fail("%s waits for %v", a, a.Blockers())
			case !w.cooperates():
				a.checkActs([]int{s.Index})
			}
		}
		if w.cooperates() {
			w.checkShares()
		}
		slices.Sort(generations)
		if n := len(slices.Compact(generations)); n > 1 {
			w.Fail("there are %d generations", n)
		}
	})
}

func (w *world) isBack() (back bool) {
	w.Locked(func() {
		back = !slices.ContainsFunc(w.apps, func(a *app) bool { return a.shouldBeActive() && !a.hasItsShare() })
	})
	return back
}

// end has everybody leave, and wants nothing left but the plan, and for a while what
// those who left have said. A goroutine that is left fails the bubble.
func (w *world) end() {
	w.Locked(func() {
		for _, a := range w.apps {
			if !a.Crashed() && a.InStay && !a.Busy {
				a.leave(time.Minute)
			}
		}
	})
	w.rest(time.Minute)
	w.Locked(func() {
		for _, a := range w.apps {
			if a.Crashed() {
				a.leave(0)
			}
		}
	})
	w.rest(5 * time.Second) // attempts to join undo what they have begun, or give it up
	w.Running.Wait()
	synctest.Wait()
	w.rest(longestGrant + simulator.Latest)
	left := w.survey()
	w.Locked(func() {
		members := slices.DeleteFunc(left.Members, func(m libcluster.Recorded) bool { return m.Incarnation == "" })
		if len(members) > 0 || len(left.Acknowledged) > 0 || left.Coordinator != nil {
			w.Fail("something is left: %+v", left)
		}
		if a, b, found := findOverlap(w.acts); found {
			w.Fail("%v, and %v", a, b)
		}
		w.checkTokens()
	})
}

// survey is all that there is in the registry.
func (w *world) survey() libcluster.Survey {
	w.Intercept(nil)
	passive := libcluster.Registration{
		Key: "mailer", Env: "production", Passive: true, Mode: w.mode, Member: libcluster.Member{ID: "watcher", Workers: 1},
	}
	session, _, err := between.Join(context.Background(), w, passive)
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
