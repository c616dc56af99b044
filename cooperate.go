package libcluster

import (
	"slices"
	"time"
)

// In mode cooperative a coordinator decides for each partition what it decides in mode
// exclusive for all ranges at once.
//
// A line of a plan says which partitions its incarnation keeps, and which it is to release. It
// may act on both: on those that it keeps until another plan says otherwise, and on those that
// it is to release until it has acknowledged, for this plan, that it has stopped them. An
// incarnation that vanishes may act on both until its deadline must have passed. A plan gives a
// partition to an incarnation only if no other one may act on it. That is the whole proof, with
// what mode exclusive has already: one plan after another by compare-and-swap, and no
// incarnation acts but by the newest plan that it has heard of.
//
// So a change takes two plans: the first has those release that have too many, and the second
// grants what they have released. A partition that neither plan moves stays on a line of the
// same incarnation in both, and nobody is told of anything.

// grantPause is how long partitions that are free wait for others that are being released, so
// that one plan grants them all. One instance that is slow to stop does not hold up the
// others for longer.
const grantPause = 250 * time.Millisecond

// granting is what a coordinator remembers of the partitions that a plan has had released.
type granting struct {
	plan  int64  // the plan's revision
	since moment // when that plan was first surveyed
}

// actor is an incarnation that may act, as far as a survey tells.
type actor struct {
	planned
	gone bool // it has no record
}

// may returns the partitions that it may act on.
func (l planned) may() partitionSet { return l.held.or(l.releases) }

// cooperate returns what to do in mode cooperative.
func (d *deciding) cooperate(base, next *plan, members []Recorded, s Survey, present map[string]bool, at moment) decision {
	if d.granting.plan != d.baseRevision {
		d.granting = granting{d.baseRevision, at}
	}
	acting, again := d.actors(base, s, present, at)
	next.share(base, acting, members)
	var waiting []planned
	releasing := false // by an instance that is there
	for _, a := range acting {
		if a.gone {
			a.releases = a.may()
		}
		if len(a.releases) > 0 {
			waiting = append(waiting, a.planned)
			releasing = releasing || !a.gone
		}
	}
	news := next.newsSince(base)
	left := grantPause - at.sinceAtLeast(d.granting.since)
	switch {
	case news == nothingNew, news == onlyReleased && releasing:
		return decision{waiting: waiting, again: again}
	case news == onlyGranted && releasing && left > 0:
		return decision{waiting: waiting, again: sooner(again, left)}
	}
	return decision{next: next, waiting: waiting}
}

// actors returns the incarnations of a plan that may still act, with what they may act on.
// again is the time until the next vanished one must have stopped.
func (d *deciding) actors(p *plan, s Survey, present map[string]bool, at moment) (acting []actor, again time.Duration) {
	gone := make(map[string]moment)
	acting = make([]actor, 0, len(p.lines))
	for _, l := range p.lines {
		noted := s.Acknowledged[l.incarnation]
		switch {
		case noted == StoppedForGood:
			continue
		case !present[l.incarnation]:
			left := d.mayStillAct(l, at, gone)
			if left > 0 {
				again = sooner(again, left)
				acting = append(acting, actor{l, true})
			}
			continue
		}
		l.releases = s.unreleased(l, p)
		acting = append(acting, actor{l, false})
	}
	d.gone = gone
	return acting, again
}

// unreleased returns which of the partitions that a line of a plan has released the incarnation
// may act on yet, as far as it has said.
func (s Survey) unreleased(l planned, p *plan) partitionSet {
	switch s.Acknowledged[l.incarnation] {
	case StoppedForGood:
		return nil
	case p.generation:
		if remaining, err := parsePartitions(s.Remaining[l.incarnation], p.total); err == nil {
			return l.releases.and(remaining)
		} // no instance has written that, and so nothing is released
	}
	return l.releases
}

// share fills the plan: it divides the partitions between the members such that as few move
// as can be, and gives each member those of its share that no other incarnation may act on.
// The rest it gives when they are free. base says which member has had which.
func (p *plan) share(base *plan, acting []actor, members []Recorded) {
	members = fitting(members, base.holders(), roomIn(p.mode))
	granted := balancePartitions(base.ownersAmong(members), weightsOf(members))
	lines := make(map[string]int, len(acting)) // by incarnation
	for i, a := range acting {
		lines[a.incarnation] = i
	}
	for n, only := range onlyActors(acting, p.total) {
		if only == noActor || granted[n] == noOwner {
			continue
		}
		if own, acts := lines[members[granted[n]].Incarnation]; !acts || own != only {
			granted[n] = noOwner // until the others have stopped
		}
	}
	p.committed, p.lines = true, make([]planned, 0, len(members)+len(acting))
	for i, held := range partitionsOf(granted, len(members)) {
		m := members[i]
		l := planned{incarnation: m.Incarnation, window: m.plans.window, Assignment: Assignment{Member: m.Member, Index: held.first(), held: held}}
		if own, acts := lines[m.Incarnation]; acts {
			l.releases = acting[own].may().minus(held)
			delete(lines, m.Incarnation)
		}
		p.add(l)
	}
	for _, a := range acting {
		if _, other := lines[a.incarnation]; !other {
			continue
		}
		if !a.gone { // it is no member any more; what has gone stays as it is
			a.releases, a.held, a.Index = a.may(), nil, -1
		}
		if len(a.may()) > 0 {
			p.add(a.planned)
			p.committed = p.committed && !a.gone
		}
	}
}

func (p *plan) add(l planned) {
	p.lines = append(p.lines, l)
	p.committed = p.committed && len(l.releases) == 0
}

// releaseAll has all incarnations that the plan names release all partitions, since nobody
// knows which of them they act on.
func (p *plan) releaseAll() {
	for i := range p.lines {
		l := &p.lines[i]
		l.Index, l.held, l.releases = -1, nil, allPartitions(p.total)
	}
}

// holders returns the IDs of those that keep partitions.
func (p *plan) holders() map[string]bool {
	held := make(map[string]bool, len(p.lines))
	for _, l := range p.lines {
		held[l.ID] = held[l.ID] || l.Index >= 0
	}
	return held
}

// ownersAmong returns which of the members keeps each partition, whichever incarnation it was.
// A partition that is being released has no owner: its last one has begun to stop it.
func (p *plan) ownersAmong(members []Recorded) []int {
	by := make(map[string]int, len(members))
	for i, m := range members {
		by[m.ID] = i
	}
	owners := slices.Repeat([]int{noOwner}, p.total)
	for _, l := range p.lines {
		if m, is := by[l.ID]; is {
			for n := range l.held.all() {
				owners[n] = m
			}
		}
	}
	return owners
}

// weightsOf returns the shares' proportions: the workers of each member that serves.
func weightsOf(members []Recorded) []int {
	weights, serves := make([]int, len(members)), serves(members)
	for i, m := range members {
		if serves(m) {
			weights[i] = m.Workers
		}
	}
	return weights
}

// Besides an index into the actors, onlyActors returns one of these.
const (
	noActor      = -1
	severalActor = -2
)

// onlyActors returns for each of n partitions which incarnation alone may act on it.
func onlyActors(acting []actor, n int) []int {
	only := slices.Repeat([]int{noActor}, n)
	for i, a := range acting {
		for _, set := range []partitionSet{a.held, a.releases} {
			for p := range set.all() {
				switch only[p] {
				case noActor:
					only[p] = i
				case i:
				default:
					only[p] = severalActor
				}
			}
		}
	}
	return only
}

// news is what a plan has that the one before has not.
type news int

const (
	nothingNew   news = iota
	onlyReleased      // incarnations have stopped partitions, or have gone
	onlyGranted       // and others get partitions
	asksForMore       // somebody is to release partitions, or there is another member
)

// newsSince compares a plan with the one before it.
func (p *plan) newsSince(last *plan) news {
	before := make(map[string]*planned, len(last.lines))
	for i := range last.lines {
		before[last.lines[i].incarnation] = &last.lines[i]
	}
	found := nothingNew
	for i := range p.lines {
		l := &p.lines[i]
		b, known := before[l.incarnation]
		delete(before, l.incarnation)
		is := nothingNew
		switch {
		case !known, b.ID != l.ID, b.Workers != l.Workers, planAddress(b.Address) != planAddress(l.Address),
			len(l.releases.minus(b.releases)) > 0:
			is = asksForMore
		case !slices.Equal(l.held, b.held):
			is = onlyGranted
		case !slices.Equal(l.releases, b.releases):
			is = onlyReleased
		}
		found = max(found, is)
	}
	if len(before) > 0 {
		found = max(found, onlyReleased)
	}
	return found
}
