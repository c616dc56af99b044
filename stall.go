package libcluster

import (
	"slices"
	"time"
)

// stall is what a coordinator remembers of a change that does not get on, because an
// instance that has to stop first may be dead, and cannot say so. Until it must have
// stopped the others go on under their old assignments, and the change waits. If all have been
// told to stop already, the old assignments are given anew, with [plan.keep].
//
// Why that is safe. Let C be the last committed plan, and P the plan that has all stop, with
// the lines of C. An instance that acts, or may yet begin to act, does so by its line in C: no
// plan is committed before all others have stopped. The new plan K has each line of C,
// with the same range and the same total:
//
//   - The instances that may act (waiting) have their own lines. So whichever of C, P and K
//     such an instance has heard of, it acts on the same range of the same total, or not at
//     all.
//   - All other instances have stopped: for good, or past their deadlines, or for P. They
//     begin again only by a plan that names them. So the line of such an instance may name
//     it, or another incarnation that has its ID now. No other acts on that range.
//
// The ranges of one plan do not overlap. So no two instances act on one range or on two
// totals, and an instance that acts does so by its line in K: what was true of C is true of
// K. The next plan waits for all that K names. Acknowledgements for P do not count for it,
// since its generation is another. The compare-and-swap makes sure that nothing was
// committed between C, P and K. What a survey says of instances that have stopped stays true.
//
// All this needs lines that say which instance acts where. If nobody knows that, the plan
// that has all stop ([deciding.stop]) names some instances without an assignment, and its assignments
// are not given.
type stall struct {
	due    moment             // since when there is something to change; zero: there is nothing
	silent map[string]silence // incarnations that may be dead though their records are there
	quiet  moment             // since when no instance has said anything under the plan that has all stop
	of     [2]int64           // that plan's revision, and how many had not said anything
}

// silence is of an incarnation that said nothing when it was to stop.
type silence struct {
	since      moment
	generation int64 // of the plan that had it stop
}

const (
	// An instance that has heard that it has to stop acknowledges within a twelfth of its
	// window that it has stopped, or else says that it lives (drain.slowFor). If no instance
	// has said anything more for a third, the instances that have said nothing may be dead.
	mutePart = 3
	// The records of dead instances are gone two windows later, since a record lives for
	// 10/6 of a window. If a record is still there, its instance lives.
	muteWindows = 2
	// Between its death and the moment when it must have stopped, an instance has 10/6 + 5/4
	// windows and a little more. A change waits twice as long for dead instances, however
	// many there are. Then all stop.
	stallWindows = 6
)

// change returns what to do if others have to stop before the next plan. same has the
// assignments of the last one.
func (d *deciding) change(base, same, next *plan, s Survey, waiting []planned, again time.Duration, at moment) decision {
	if d.due.mono.IsZero() {
		d.due = at
	}
	longest := time.Duration(0)
	for _, l := range base.lines {
		longest = max(longest, l.window)
	}
	late := at.sinceAtLeast(d.due) >= stallWindows*longest
	dead, left := d.mayBeDead(base, s, waiting, at)
	switch {
	case base.committed && len(dead) > 0 && (!late || next.hasAssignments(same)):
		if !same.names(base) {
			return decision{next: same, waiting: dead}
		}
		return decision{waiting: dead, again: left}
	case base.committed:
		next.committed, next.total, next.lines = false, base.total, base.lines
		return decision{next: next}
	case len(dead) > 0 && !late && base.saysWhere() && s.anyWorks(base, dead):
		return decision{next: same, waiting: dead}
	}
	return decision{waiting: waiting, again: sooner(again, left)}
}

// mayBeDead returns which of the instances waited for may be dead, and after how long to
// look again.
func (d *deciding) mayBeDead(base *plan, s Survey, waiting []planned, at moment) (dead []planned, again time.Duration) {
	again = d.listen(base, s, waiting, at)
	for _, l := range waiting {
		left := time.Duration(0)
		since, vanished := d.gone[l.incarnation]
		silent, known := d.silent[l.incarnation]
		switch {
		case vanished:
			left = untilOver(l.window) - at.sinceAtLeast(since)
		case known && (base.committed || silent.generation == base.generation):
			left = muteWindows*l.window - at.sinceAtLeast(silent.since)
		}
		if left <= 0 {
			continue
		}
		dead = append(dead, l)
		again = sooner(again, left)
	}
	return dead, again
}

// listen notes which instances have said nothing for too long, and which have spoken. It
// returns after how long the next will have said nothing for too long.
func (d *deciding) listen(base *plan, s Survey, waiting []planned, at moment) (again time.Duration) {
	seen := make(map[string]int64, len(s.Members)) // by those that are there
	for _, m := range s.Members {
		seen[m.Incarnation] = max(m.plans.seen, s.Acknowledged[m.Incarnation])
	}
	says := func(l planned, generation int64) bool {
		latest, present := seen[l.incarnation]
		return !present || latest >= generation
	}
	still := make(map[string]silence)
	for _, l := range base.lines {
		if silent, known := d.silent[l.incarnation]; known && !says(l, silent.generation) {
			still[l.incarnation] = silent
		}
	}
	d.silent = still
	if base.committed {
		return 0
	}
	mute := slices.DeleteFunc(slices.Clone(waiting), func(l planned) bool { return says(l, base.generation) })
	if of := [2]int64{d.baseRevision, int64(len(mute))}; d.of != of {
		d.of, d.quiet = of, at
	}
	for _, l := range mute {
		if _, known := still[l.incarnation]; known {
			continue
		}
		if left := l.window/mutePart - at.sinceAtLeast(d.quiet); left <= 0 {
			still[l.incarnation] = silence{at, base.generation}
		} else {
			again = sooner(again, left)
		}
	}
	return again
}

// anyWorks reports whether a member that is there has an assignment, and is not among dead.
func (s Survey) anyWorks(p *plan, dead []planned) bool {
	return slices.ContainsFunc(s.Members, func(m Recorded) bool {
		is := func(l planned) bool { return l.incarnation == m.Incarnation }
		return s.Acknowledged[m.Incarnation] != StoppedForGood && slices.ContainsFunc(p.lines, is) && !slices.ContainsFunc(dead, is)
	})
}

// saysWhere reports whether a plan says of all incarnations that it names where they may act.
func (p *plan) saysWhere() bool {
	return !slices.ContainsFunc(p.lines, func(l planned) bool { return l.Index < 0 })
}

// keep fills the plan with the assignments of the last plan. All incarnations but those in
// waiting have stopped; their lines go to the incarnations that have their IDs now.
func (p *plan) keep(last *plan, members []Recorded, waiting []planned) {
	acts, named := make(map[string]bool, len(waiting)), make(map[string]bool, len(last.lines))
	for _, l := range waiting {
		acts[l.incarnation] = true
	}
	for _, l := range last.lines {
		named[l.incarnation] = true
	}
	by := make(map[string]Recorded, len(members))
	for _, m := range members {
		by[m.ID] = m
	}
	p.total, p.lines = last.total, slices.Clone(last.lines)
	for i, l := range last.lines {
		m, there := by[l.ID]
		follows := m.Incarnation == l.incarnation || !acts[l.incarnation] && !named[m.Incarnation]
		if there && m.Workers == l.Workers && follows {
			p.lines[i] = planned{incarnation: m.Incarnation, window: m.plans.window, Assignment: Assignment{Member: m.Member, Index: l.Index}}
		}
	}
}

// hasAssignments reports whether a plan has the assignments of another one, whichever incarnations
// have them.
func (p *plan) hasAssignments(q *plan) bool {
	return p.total == q.total && slices.EqualFunc(p.lines, q.lines, func(a, b planned) bool {
		return a.ID == b.ID && a.Index == b.Index && a.Workers == b.Workers
	})
}
