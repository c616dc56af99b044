package simulation

import (
	"errors"
	"slices"
	"time"

	"github.com/libcluster/libcluster"
)

// What is promised, of one app. All is called with the world's lock held.

// fences tells whether the app gives way when its deadline has passed. A passive
// one then knows only that what it was told may be out of date.
func (a *app) fences() bool { return a.cfg.Outage == libcluster.FenceOnOutage }

// checkCallback judges a callback that is just coming.
func (a *app) checkCallback(s libcluster.State) {
	w := a.w
	if a.calling {
		w.Fail("%s: two callbacks at the same time", a)
	}
	// A Leave that was given no time may return just before the last callback begins.
	if !a.InStay && (s.Active() || !a.gone.Equal(time.Now())) {
		w.Fail("%s is called back and is not in the cluster: %v", a, s)
	}
	if n := len(a.calls); n > 0 {
		last := a.calls[n-1]
		if last.Index == s.Index && last.Workers == s.Workers && last.Total == s.Total {
			// Once, that its ID has been taken.
			if a.repeated || !errors.Is(a.Err(), libcluster.ErrInstanceTaken) {
				w.Fail("%s is called back without news: %v", a, s)
			}
			a.repeated = true
		}
	} else if !s.Active() && !a.cfg.Passive {
		w.Fail("%s is told of no place first: %v", a, s)
	}
	a.toldMark = a.checkMark("was told", a.toldMark, s)
	a.checkPlace("was told", s)
	if !s.Active() {
		return
	}
	if !a.leaving.IsZero() && a.leaving.Before(time.Now()) {
		w.Fail("%s is told of a place while it leaves: %v", a, s)
	}
	if a.fences() && !time.Now().Before(s.Deadline) {
		w.Fail("%s is told of a place after its deadline: %v", a, s)
	}
	if a.view.fenced {
		w.Fail("%s is told of a place that it has lost: %v", a, s)
	}
	// A state from before the present incarnation's first is of the one before, which
	// has been replaced while the callback was about to begin.
	if n := len(a.calls); n > 0 && a.calls[n-1].Active() && a.toldOf != a.view && s.Generation >= a.view.first {
		w.Fail("%s is told of a place and not that it has lost the one before: %v", a, s)
	}
	a.toldOf = a.view
}

// checkOwed judges the callback after one that has outlived its stay.
func (a *app) checkOwed(s libcluster.State) {
	a.w.Say("%s is told late: %d+%d/%d in %d", a, s.Index, s.Workers, s.Total, s.Generation)
	a.w.Happened("callback after its stay")
	if a.calling || s.Active() {
		a.w.Fail("%s is told of a place and not that it has lost that of the stay before: %v", a, s)
	}
}

// checkMark wants generations to grow, but for a store that has gone back since.
func (a *app) checkMark(how string, last mark, s libcluster.State) mark {
	if s.Generation == last.generation {
		return last
	}
	next := mark{a.era(s.Generation), s.Generation}
	if next.generation < last.generation && next.era <= last.era {
		a.w.Fail("%s %s generation %d after %d", a, how, next.generation, last.generation)
	}
	return next
}

// astray tells whether it may have missed that the store has gone back, which has come as far
// again since: a passive app has no lease by which to tell, and another tells by it, a little later.
func (a *app) astray() bool {
	return a.cfg.Passive && a.w.restores > 0 || a.view != nil && a.view.astray
}

// era is the latest in which it was told of a generation.
func (a *app) era(generation int64) int {
	if eras := a.eras[generation]; len(eras) > 0 {
		return eras[len(eras)-1]
	}
	return 0
}

// checkPlace wants a state to be what follows from the members of its generation.
// If that is so of all instances, their ranges tile the total.
func (a *app) checkPlace(how string, s libcluster.State) {
	if len(a.eras) == 0 || a.astray() {
		return // it was never told of any members
	}
	eras := a.eras[s.Generation]
	if len(eras) == 0 {
		a.w.Fail("%s %s a generation that it cannot know: %v", a, how, s)
		return
	}
	var index, workers, total int
	for _, era := range eras {
		index, workers, total = stateOf(a.memberID(), s.Active(), a.w.past.eras[era][s.Generation])
		if index == s.Index && total == s.Total && (!s.Active() || workers == s.Workers) {
			return
		}
	}
	a.w.Fail("%s %s %v, and it should be %d+%d/%d", a, how, s, index, workers, total)
}

// memberID is the ID under which it is a member, if it is.
func (a *app) memberID() string {
	if a.cfg.Passive {
		return ""
	}
	return a.ID
}

// checkDeadline is called at any time. A deadline that has passed must show.
func (a *app) checkDeadline() {
	s := a.view
	if s == nil || !a.State().Active() {
		return
	}
	if a.fences() && !time.Now().Before(s.deadline) {
		a.w.Fail("%s is active %v after its deadline", a, time.Since(s.deadline))
	}
	if a.fences() && !s.tampered && !a.w.Holds(cluster, a.ID) {
		a.w.Fail("%s is active and its record has expired", a)
	}
	if s.fenced {
		a.w.Fail("%s is active again in an incarnation that was fenced", a)
	}
}

// check is called when all has come to rest.
func (a *app) check() {
	state, err := a.State(), a.Err()
	a.checkDeadline()
	a.read = a.checkMark("reads", a.read, state)
	a.checkPlace("reads", state)
	s := a.view
	if s == nil || s.stay != a.Stay {
		return
	}
	a.checkReason(state, err)
	if !a.cfg.Passive && !state.Active() {
		s.fenced = true
	}
	if n := len(a.calls); n > 0 && !a.calling && a.InStay && !errors.Is(err, libcluster.ErrLeft) {
		last := a.calls[n-1]
		if last.Index != state.Index || last.Workers != state.Workers || last.Total != state.Total {
			a.w.Fail("%s is at rest and was not told %v but %v", a, state, last)
		}
	}
	if members, known := a.w.past.eras[a.era(state.Generation)][state.Generation]; known && !a.astray() {
		want, _ := places(members)
		if got := a.Members(); !slices.EqualFunc(got, want, func(a, b libcluster.Assignment) bool {
			return a.ID == b.ID && a.Workers == b.Workers && a.Index == b.Index
		}) {
			a.w.Fail("%s has members %v, and it should be %v", a, got, want)
		}
	}
}

// checkReason wants a place to be lost at once for a reason, and not without one.
func (a *app) checkReason(state libcluster.State, err error) {
	s := a.view
	lost := s.over != nil || a.fences() && !time.Now().Before(s.deadline)
	switch {
	case !a.leaving.IsZero() || !a.InStay || !a.Joined && errors.Is(err, libcluster.ErrLeft):
		lost = true // a Join that fails leaves, too
	case lost && err == nil:
		a.w.Fail("%s has lost its place and knows of no reason: %v, %v", a, state, s.over)
	case !lost && errors.Is(err, libcluster.ErrDeadlinePassed) && a.fences():
		a.w.Happened("stall") // real time counts too, if it is the longer
		lost = true
	case !lost && err != nil:
		a.w.Fail("%s has lost its place without a reason: %v, %v", a, state, err)
	}
	if state.Active() == lost && !a.cfg.Passive {
		a.w.Fail("%s: active is %v, and over is %v: %v", a, state.Active(), lost, err)
	}
	phase := a.Phase()
	if a.Joined && !a.calling && (phase == libcluster.PhaseActive) == lost {
		a.w.Fail("%s is %v, and over is %v: %v", a, phase, lost, err)
	}
	if errors.Is(err, libcluster.ErrInstanceTaken) && a.rivals == 0 {
		a.w.Fail("%s gives way, and nobody has taken its ID: %v", a, err)
	}
}

// shouldBeActive tells who has to be back when nothing is wrong any more.
func (a *app) shouldBeActive() bool {
	return a.Joined && !a.Crashed() && !errors.Is(a.Err(), libcluster.ErrInstanceTaken)
}
