package libcluster

import "fmt"

// heard is what a member makes of the plan that its registry tells.
type heard struct {
	plan    *plan    // nil: there is none that counts
	own     *planned // this incarnation's line in it
	late    bool     // it is older than one that this instance knows
	foreign bool     // it is of a cluster of another mode
	err     error    // why it is none
}

// hear reads a plan. known is the newest one that this instance has heard of, if any.
func hear(text []byte, incarnation string, of scheme, known *knownPlan, clock int64) (h heard) {
	p, own, err := findPlanned(text, incarnation)
	switch {
	case err != nil:
		h.err = err
	case !credible(p.generation, clock):
		h.err = fmt.Errorf("plan: generation %d is of a time a century ahead", p.generation)
	case p.scheme() != of:
		h.foreign = true
	case known != nil && p.generation < known.generation:
		h.late = true
	default:
		h.plan, h.own = p, own
	}
	return h
}

// listener is what the view of a plan depends on besides the plan, and the view before.
type listener struct {
	inc     *incarnation // only named here
	workers int
	passive bool
	drains  bool       // the instance is to give its assignment away
	known   *knownPlan // the newest plan of which the instance has heard; nil: none
	stopped *stopped   // the latest that the application has stopped; nil: nothing
}

// viewOf returns the view that follows from what was heard.
//
// If no plan counts, there is none yet, or it is a mistake, or a cluster of another mode has
// left it, or the store has gone back behind a newer plan. A coordinator will make
// a new plan, this instance if no other does. The range that this instance holds by
// the last plan cannot go to another instance before this one has heard of it.
func (l listener) viewOf(h heard, now *Planning, before *view) *view {
	v := &view{inc: l.inc, state: State{Index: -1, Workers: l.workers}, plan: &planView{coordinator: now.Coordinator}}
	if !l.passive {
		v.why = ErrWaiting
	}
	switch {
	case h.plan == nil && before.inc == l.inc:
		v.state, v.why, v.plan = before.state, before.why, before.plan.says(now.Coordinator)
	case h.plan == nil:
		if l.known != nil {
			v.state.Generation = l.known.generation
		}
	default:
		v.plan.text, v.plan.revision, v.plan.generation = now.Plan, now.Revision, h.plan.generation
		v.state.Total, v.state.Generation = h.plan.total, h.plan.generation
		switch {
		case h.own == nil || l.passive:
		case h.plan.mode == ModeCooperative:
			v.hold(h, before, l.stopped)
		default:
			v.assign(h)
		}
		if v.why != nil && l.drains {
			v.why, v.plan.spare = errIdle, h.plan.committed
		}
	}
	return v
}

// assign fills in what the plan gives this instance, or that it has to stop.
func (v *view) assign(h heard) {
	if h.plan.committed {
		v.state.Index, v.state.Workers, v.why = h.own.Index, h.own.Workers, nil
		return
	}
	v.state.Workers = h.own.Workers
	if h.own.Index >= 0 {
		v.state.Total -= h.own.Workers
	}
	v.plan.prepare = &prepare{v.plan.revision, h.plan.generation}
}

// isSpare reports whether there is nothing for this instance, until members change.
func (v *view) isSpare() bool { return v.plan != nil && v.plan.spare }

// hold fills in which partitions the plan gives this instance, and which it has to stop.
func (v *view) hold(h heard, before *view, said *stopped) {
	var held, outgoing *holding
	if before.inc == v.inc {
		held, outgoing = before.state.held, before.plan.unsaid(said)
	}
	v.state.held, v.plan.outgoing = held.next(h.own.held, h.plan.generation), outgoing.or(held.less(h.own.held))
	v.state.Index, v.state.Workers = h.own.Index, h.own.Workers
	if v.state.Active() {
		v.why = nil
	}
	v.plan.spare = h.plan.committed && !v.state.Active()
	if len(h.own.releases) > 0 {
		v.plan.prepare, v.plan.releases = &prepare{v.plan.revision, h.plan.generation}, h.own.releases
	}
}

// mayActOn reports whether the incarnation may act on a partition by its token, if it is not
// over: it holds the partition, or has not said yet that it has stopped it.
func (v *view) mayActOn(p Partition, said *stopped) bool {
	for _, h := range []*holding{v.state.held, v.plan.unsaid(said)} {
		if token, held := h.token(p.Number); held && token == p.Token {
			return true
		}
	}
	return false
}

// blockers returns the instances that the coordinator says it waits for. After its first
// line there is one line for each, with the time and the ID.
func (v *view) blockers() (all []Blocker) {
	if v.plan == nil || v.inc.over() != nil {
		return nil
	}
	return parseBlockers(v.plan.coordinator)
}
