package libcluster

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// view is what readers see: a state and the incarnation whose deadline it
// depends on. Without a plan it is replaced while the roster's mutex is held, under
// which the index changes: as long as it is the newest one, the index is that of the state.
type view struct {
	state State
	inc   *incarnation // nil before the first state
	why   error        // if not nil: why there is no assignment, whatever inc says
	plan  *planView    // in a mode with a plan
	all   atomic.Pointer[owners]
	since time.Time // when the state's generation became known
}

// after notes which view it follows.
func (v *view) after(before *view) *view {
	v.since = time.Now()
	if before.state.Generation == v.state.Generation && !before.since.IsZero() {
		v.since = before.since
	}
	return v
}

// anew returns the same view, of which more is known.
func (v *view) anew() *view {
	return &view{state: v.state, inc: v.inc, why: v.why, plan: v.plan, since: v.since}
}

// static reports whether the registry knows only this instance's assignment.
func (v *view) static() bool {
	v.inc.roster.mu.Lock()
	defer v.inc.roster.mu.Unlock()
	return v.inc.roster.assigned != nil
}

func (v *view) now() State {
	if v.why != nil {
		return v.state.inactive()
	}
	if v.inc == nil {
		return v.state
	}
	until, fenced := v.inc.until() // which reads the clock, once
	if fenced != nil || v.inc.left.Load() {
		return v.state.inactive()
	}
	state := v.state
	if state.Active() {
		state.Deadline = until
	}
	return state
}

func (v *view) reason() error {
	if v.inc != nil {
		if over := v.inc.over(); over != nil {
			return over
		}
	}
	return v.why
}

// totalWith returns the total if this instance had another number of workers.
func (v *view) totalWith(workers int) int64 {
	if v.inc == nil || v.inc.left.Load() {
		return int64(workers)
	}
	v.inc.roster.mu.Lock()
	defer v.inc.roster.mu.Unlock()
	switch {
	case v.inc.roster.assigned != nil:
		return int64(v.inc.roster.assigned.Total)
	case v.plan != nil:
		if v.state.Active() && v.state.held == nil {
			return int64(v.state.Total) - int64(v.state.Workers) + int64(workers)
		}
		return int64(workers)
	}
	_, before := v.inc.roster.index.own()
	return v.inc.roster.index.total - int64(before) + int64(workers)
}

// totalOf returns the total of all assignments, in the order of their indexes. It may not be
// that of the state: while this instance has no assignment, its own workers come on top.
func (v *view) totalOf(assignments []Assignment) int {
	if n := len(assignments); n > 0 && v.inc.cfg.Mode != ModeCooperative && !v.static() {
		return assignments[n-1].Index + assignments[n-1].Workers
	}
	return v.state.Total
}

// withOwn adds to this instance's assignment what it says of itself. A plan does not have it.
func (i *instance) withOwn(v *view, assignments []Assignment) []Assignment {
	own := i.own.desired()
	at := slices.IndexFunc(assignments, func(p Assignment) bool { return p.ID == own.ID })
	if at >= 0 && !i.cfg.Passive && v.inc.over() == nil {
		assignments[at].Version, assignments[at].Metadata = own.Version, maps.Clone(own.Metadata)
	}
	return assignments
}

// refresh has readers see what this instance says of itself by now. Without a plan the registry
// tells of it.
func (i *instance) refresh() {
	if v := i.view.Load(); v.plan != nil && i.view.CompareAndSwap(v, v.anew()) {
		i.changed.send()
	}
}

// owners returns the newest view with all members' assignments.
func (i *instance) owners() (*view, *owners) {
	for {
		v := i.view.Load()
		if all := v.all.Load(); all != nil {
			return v, all
		}
		if assignments, ok := i.assignmentsOf(v); ok {
			slices.SortFunc(assignments, byIndex)
			all := newOwners(assignments, v.totalOf(assignments), i.cfg.Partitions)
			v.all.Store(all) // some may make it at the same time, which does no harm
			return v, all
		}
	}
}

// assignmentsOf returns all members' assignments in a view. It returns false if the view has been
// replaced: the index that it was computed from may have changed since.
func (i *instance) assignmentsOf(v *view) (assignments []Assignment, ok bool) {
	if v.inc == nil {
		return nil, true
	}
	if v.plan != nil {
		return i.withOwn(v, v.inc.news.detailed(v.plan.assignments())), true
	}
	v.inc.roster.mu.Lock()
	defer v.inc.roster.mu.Unlock()
	switch {
	case v.inc.roster.assigned == nil:
		return v.inc.roster.index.assignments(), i.view.Load() == v
	case !v.state.Active():
		return nil, true
	}
	m := i.own.desired()
	m.Workers = v.state.Workers
	return []Assignment{{Member: m.clone(), Index: v.state.Index}}, true
}
