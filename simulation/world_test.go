package simulation

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/simulator"
	"github.com/libcluster/libcluster/libclustertest"
)

// world is what one seed makes: a registry, and apps that use it.
type world struct {
	*simulator.World

	// Guarded by its lock.
	apps     []*app
	past     history
	backups  []backup
	restores int             // how often the store has gone back; once it has, owners says little
	owners   map[string]*app // who has written each record; nil: a stranger or a thief
}

// backup is a snapshot and where it belongs in history.
type backup struct {
	libclustertest.Snapshot
	era      int
	revision int64
}

func newWorld(seed uint64) *world {
	w := &world{
		World:  simulator.NewWorld(seed, *oneSeed > 0),
		owners: map[string]*app{},
	}
	w.Intercept(w.intercept)
	w.note()
	return w
}

func (w *world) note() {
	w.past.note(w.Revision(cluster), func() []libcluster.Member { return w.Members(cluster) })
}

// tampered marks all incarnations of an ID but one.
func (w *world) tampered(id string, but *incarnation) {
	for _, a := range w.apps {
		if a.ID != id || a.cfg.Passive {
			continue
		}
		for _, s := range []*incarnation{a.view, a.recorded} {
			if s != nil && s != but {
				s.tampered = true
			}
		}
		if but == nil || but.a != a {
			a.rivals++
		}
	}
}

// simulate is the life of one world. It returns what has happened, and which
// promise was broken, if any.
func simulate(t *testing.T, seed uint64) (w *world) {
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed)
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
		w.note()
		for _, a := range w.apps {
			a.check()
		}
	})
}

// backWithin is how soon after all faults have ended everybody is active again:
// the longest wait between two attempts, and what goes wrong meanwhile. One that
// has sat an outage out learns with its next heartbeat what has become of it.
func backWithin(ttl time.Duration) time.Duration { return 2*time.Second + ttl/6 }

// settle ends all faults, and wants everybody back.
func (w *world) settle() {
	w.Locked(func() {
		w.Say("faults end")
		close(w.Calm)
		w.HealAll()
		for _, a := range w.apps {
			a.Sky, a.Slow = simulator.Weather{}, nil
		}
	})
	w.rest(backWithin(longestTTL))
	w.Locked(func() {
		for _, a := range w.apps {
			if a.shouldBeActive() && (a.Err() != nil || a.State().Active() == a.cfg.Passive) {
				w.Fail("%s is not back: %v, %v", a, a.State(), a.Err())
			}
		}
	})
	w.rest(30*time.Second + longestTTL) // whatever was under way, and leases that nobody renews
	w.Locked(func() {
		for _, a := range w.apps {
			s := a.State()
			switch {
			case !a.shouldBeActive() || a.cfg.Passive:
				continue
			case s.Generation != w.Revision(cluster):
				w.Fail("%s is not up to date in %d: %v", a, w.Revision(cluster), s)
			case s.Workers != a.Wants:
				w.Fail("%s has not the %d workers that it wants: %v", a, a.Wants, s)
			}
		}
	})
}

// end has everybody leave, and wants nothing left but what strangers have put. A
// goroutine that is left fails the bubble.
func (w *world) end() {
	w.Locked(func() {
		for _, a := range w.apps {
			if a.Crashed() {
				continue
			}
			if a.InStay && !a.Busy {
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
	w.Locked(func() {
		for _, a := range w.apps {
			if w.owners[a.ID] == a && w.Holds(cluster, a.ID) {
				w.Fail("%s has left its record behind", a)
			}
		}
	})
}
