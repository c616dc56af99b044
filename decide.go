package libcluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A coordinator decides, from a survey alone, what the next plan is. It may be late, or
// may not be the coordinator any more: a plan only ever replaces the plan that was
// surveyed, and no plan is committed before all instances that may act on the last plan
// have stopped. So two coordinators, or none, are safe.
//
// In mode planned nobody waits. In mode exclusive, the first line that fits counts:
//
//	the plan in the registry                  may still act            next
//	unknown: garbage, another mode's, gone    -                        all known instances stop, and the wait
//	  or older than a plan that was seen                               includes an unknown instance
//	lost: none, and none was seen             -                        the same, without the unknown instance;
//	                                                                   if no instance has to stop, the assignments
//	                                                                   are committed
//	committed, and as it should be            -                        nothing
//	any                                       no instance              the new assignments are committed
//	committed, with the same assignments      those that keep theirs   committed anew: no instance has to stop
//	any other                                 some instance            a change, which waits: see stall.go

const (
	// An instance that vanished has stopped when its window has passed on its own
	// clock. Ours may run differently, by up to a tenth each, and so we wait
	// longer: 1.1/0.9 is less than 5/4. The rest is for being late to look.
	vanishedPercent = 125
	vanishedSlack   = 250 * time.Millisecond

	// blockerAfter is how long a wait for an instance must last before all members learn of it.
	blockerAfter = time.Second
)

// mostWindows bounds the window of a member that is given an assignment: it may be so many
// times as long as the coordinator's own.
const mostWindows = 20

// untilOver is how long a member must have been gone to be known to have stopped.
func untilOver(window time.Duration) time.Duration {
	return window*vanishedPercent/100 + vanishedSlack
}

// deciding is what a coordinator remembers from one survey to the next.
type deciding struct {
	scheme
	incarnation string // its own
	// longest is the longest window of a member that is given an assignment; 0: any. A longer
	// one would hold up all the others for as long, should that member vanish.
	longest time.Duration
	// known is the newest plan that this instance has seen, in whatever
	// incarnation. The registry's may be older: a restored one.
	known *plan
	// base is the last plan that was surveyed, if it was one.
	base         *plan
	baseRevision int64
	// gone is since when each incarnation that may still act has no record.
	gone  map[string]moment
	stall // in mode exclusive: of a change that does not get on
	granting
	damping
}

// decision is what to do about a survey.
type decision struct {
	next    *plan         // to swap for the surveyed one; nil: nothing
	again   time.Duration // decide anew after that, if nothing changes before; 0: no need to
	waiting []planned     // the instances that hold the next plan up
}

// decide returns what to do. floor is the least generation for a new plan: the clock's.
func (d *deciding) decide(s Survey, at moment, floor int64) decision {
	members, present := d.members(s)
	last := d.lastPlan(s, members, floor)
	base := last.plan
	next := &plan{mode: d.mode, total: d.partitions, generation: max(last.seen, floor) + 1}
	admitted := d.admit(base, members, s, at)

	switch {
	case d.mode == ModeCooperative && !last.lost && !last.unknown:
		return d.cooperate(base, next, admitted, s, present, at)
	case d.mode == ModePlanned:
		next.commit(base, admitted)
		if !last.lost && base.committed && next.names(base) {
			return decision{}
		}
		return decision{next: next}
	case last.lost || last.unknown:
		return d.stop(base, next, members, last.unknown)
	}
	waiting, again := d.holdingUp(base, s, present, at)
	next.commit(base, admitted)
	same := &plan{mode: d.mode, committed: true, generation: next.generation}
	same.keep(base, members, waiting)
	switch {
	case base.committed && next.names(base):
		d.due = moment{}
		return decision{}
	case len(waiting) == 0, base.committed && same.names(next):
		// No instance has to stop for the next plan. In the second case all have their
		// assignments, some in a new incarnation, and their old incarnations have stopped.
		d.due = moment{}
		return decision{next: next}
	}
	return d.change(base, same, next, s, waiting, again, at)
}

// lastPlan is the plan by which instances may act, as far as a survey tells.
type lastPlan struct {
	plan    *plan // not nil; an empty one, if none is known
	lost    bool  // the registry has not that plan, or an older one
	unknown bool  // there may be a plan of which this instance knows nothing
	seen    int64 // the newest generation that any instance has seen
}

func (d *deciding) lastPlan(s Survey, members []Recorded, floor int64) (last lastPlan) {
	if d.base == nil || s.Planning.Revision != d.baseRevision {
		d.base, _ = parsePlan(s.Plan)
		d.baseRevision = s.Planning.Revision
	}
	base := d.base
	if base != nil && !credible(base.generation, floor) {
		base = nil
	}
	// A plan of another mode does not say which instances act, nor does garbage, and
	// nothing tells which plan was there before.
	foreign := base == nil && len(s.Plan) > 0 || base != nil && base.scheme() != d.scheme
	if foreign && base != nil {
		last.seen, base = base.generation, nil
	}
	last.lost = base == nil // or there is none
	if d.known != nil && (last.lost || base.generation < d.known.generation) {
		base, last.lost = d.known, true
	}
	if !last.lost {
		d.known = base
	}
	if base == nil {
		base = &plan{mode: d.mode, total: d.partitions, committed: true}
	}
	last.plan, last.seen = base, max(last.seen, base.generation)
	for _, m := range members {
		if credible(m.plans.seen, floor) {
			last.seen = max(last.seen, m.plans.seen)
		}
	}
	// An instance has seen a newer plan, or the registry has gone back. Then an instance may
	// act on a plan that the registry has forgotten.
	last.unknown = foreign || last.seen > base.generation || last.lost && d.known != nil
	return last
}

// stop returns a plan that has all known instances stop, because the coordinator does not
// know which of them act.
func (d *deciding) stop(base, next *plan, members []Recorded, unknown bool) decision {
	holders := slices.Clone(base.lines)
	longest := time.Duration(0)
	for _, l := range base.lines {
		longest = max(longest, l.window)
	}
	for _, m := range members {
		longest = max(longest, m.plans.window)
		named := slices.ContainsFunc(base.lines, func(l planned) bool { return l.incarnation == m.Incarnation })
		if !named && (m.Incarnation != d.incarnation || d.known != nil) {
			holders = append(holders, holder(m))
		}
	}
	if unknown {
		// An unknown instance never acknowledges, so the others wait for it in full. It has
		// another name in each such plan, since each unknown instance may have begun later.
		name := fmt.Sprintf("unknown-%d", next.generation)
		holders = append(holders, planned{
			incarnation: name, window: longest, Assignment: Assignment{Member: Member{ID: "unknown", Workers: 1}, Index: -1},
		})
	}
	switch {
	case len(holders) > 0:
		next.total, next.lines = base.total, holders
		if d.mode == ModeCooperative {
			next.releaseAll()
		}
	case d.mode == ModeCooperative:
		next.share(base, nil, members)
	default:
		next.commit(base, members)
	}
	return decision{next: next}
}

func holder(m Recorded) planned {
	return planned{incarnation: m.Incarnation, window: m.plans.window, Assignment: Assignment{Member: m.Member, Index: -1}}
}

// members returns the records that count, by the order in which they appeared,
// and which incarnations have one; those that an operator drains drain. A record that was copied under the same lease
// does not count: an incarnation has one assignment.
func (d *deciding) members(s Survey) (members []Recorded, present map[string]bool) {
	present = make(map[string]bool, len(s.Members))
	members = make([]Recorded, 0, len(s.Members))
	for _, m := range s.sorted() {
		m.plans.draining = m.plans.draining || s.drains(m.ID)
		copied := present[m.Incarnation]
		present[m.Incarnation] = true
		leaving := s.Acknowledged[m.Incarnation] == StoppedForGood && !m.reserved
		long := d.longest > 0 && m.plans.window > d.longest
		if m.plans.scheme == d.scheme && m.Incarnation != "" && !leaving && !copied && !long {
			members = append(members, m)
		}
	}
	return members, present
}

// sorted returns the records in the order in which they appeared.
func (s Survey) sorted() []Recorded {
	return slices.SortedFunc(slices.Values(s.Members), func(a, b Recorded) int {
		return cmp.Or(cmp.Compare(a.Since, b.Since), strings.Compare(a.ID, b.ID))
	})
}

// holdingUp returns the instances of a plan that may still act, or may not have heard of
// it. again is the time until the next vanished instance must have stopped.
func (d *deciding) holdingUp(p *plan, s Survey, present map[string]bool, at moment) (
	waiting []planned, again time.Duration,
) {
	gone := make(map[string]moment)
	for _, l := range p.lines {
		if s.hasStopped(l.incarnation, p) {
			continue
		}
		if !present[l.incarnation] {
			left := d.mayStillAct(l, at, gone)
			if left <= 0 {
				continue
			}
			again = sooner(again, left)
		}
		waiting = append(waiting, l)
	}
	d.gone = gone
	return waiting, again
}

// mayStillAct returns for how long an incarnation without a record may act yet, and notes
// since when it has had none.
func (d *deciding) mayStillAct(l planned, at moment, gone map[string]moment) time.Duration {
	since, known := d.gone[l.incarnation]
	if !known {
		since = at
	}
	gone[l.incarnation] = since
	return untilOver(l.window) - at.sinceAtLeast(since)
}

// hasStopped reports whether an incarnation has said that it has stopped, for good or for
// this plan.
func (s Survey) hasStopped(incarnation string, p *plan) bool {
	latest, noted := s.Acknowledged[incarnation]
	return noted && (latest == StoppedForGood || !p.committed && latest == p.generation)
}

// commit fills the plan with the members that serve, as near as may be to where they were.
func (p *plan) commit(last *plan, members []Recorded) {
	serves := serves(members)
	members = slices.DeleteFunc(slices.Clone(members), func(m Recorded) bool { return !serves(m) })
	held := make(map[string]bool)
	var before []Assignment
	for _, l := range last.lines {
		if l.Index >= 0 {
			before = append(before, l.Assignment)
			held[l.ID] = true
		}
	}
	by := make(map[string]Recorded, len(members))
	var taken []Member
	total := 0
	for _, m := range fitting(members, held, roomIn(p.mode)) {
		total += m.Workers
		by[m.ID] = m
		taken = append(taken, m.Member)
	}
	p.committed, p.total, p.lines = true, total, nil
	for _, a := range arrange(before, taken) {
		m := by[a.ID]
		p.lines = append(p.lines, planned{incarnation: m.Incarnation, window: m.plans.window, Assignment: a})
	}
}

// fitting returns the members for which there is room in a plan of so many bytes. If the
// total or the text does not fit, the members that have an assignment keep it.
func fitting(members []Recorded, held map[string]bool, room int) (fit []Recorded) {
	members = slices.Clone(members)
	slices.SortStableFunc(members, func(a, b Recorded) int {
		switch {
		case held[a.ID] == held[b.ID]:
			return 0
		case held[a.ID]:
			return -1
		}
		return 1
	})
	fit = make([]Recorded, 0, len(members))
	total, size := 0, 0
	for _, m := range members {
		size += roomFor(m.Incarnation, m.Member)
		if m.Workers <= MaxWorkers-total && size <= room {
			total += m.Workers
			fit = append(fit, m)
		}
	}
	return fit
}

// names reports whether two plans name the same incarnations under the same assignments.
func (p *plan) names(q *plan) bool {
	return p.total == q.total && slices.EqualFunc(p.lines, q.lines, func(a, b planned) bool {
		return a.incarnation == b.incarnation && a.Index == b.Index && a.Workers == b.Workers &&
			planAddress(a.Address) == planAddress(b.Address)
	})
}
