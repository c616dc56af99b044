package libcluster

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// View is what an instance knows of the whole cluster at one instant.
type View struct {
	// State is this instance's state, as [Cluster.State] returns it. Its generation is
	// that of the whole view.
	State State
	// Members is every member with its range, as [Cluster.Members] returns them. Except
	// in a static cluster, their ranges tile [0, total) if a total is known. That total is
	// State.Total; while this instance has no range but is in the list, its own workers
	// come on top, unless it is there as an earlier incarnation that a plan still names.
	Members []Assignment
	// Blockers are the instances that the cluster waits for, as [Cluster.Blockers]
	// returns them.
	Blockers []Blocker
}

// View returns what this instance knows of the whole cluster at one instant. (Between two
// calls of [Cluster.State] and [Cluster.Members] there may be a change.) The view is made
// for the call and belongs to the caller.
func (c *Cluster) View() View {
	v, all := c.owners()
	return View{State: v.now(), Members: all.clone(), Blockers: v.blockers()}
}

// Members returns every member with its range, ordered by index; without a plan that is
// also the order of the IDs. It is the list that the newest state was computed from, made
// for the call, and belongs to the caller. Before the first Join it is empty; after Leave
// it is the last list known. In a static cluster it has only this instance. In a mode with
// a plan the Version and Metadata of others are known only with [Config.WatchMembers],
// [Config.OnMembers] or [Config.Superseded].
func (c *Cluster) Members() []Assignment {
	_, all := c.owners()
	return all.clone()
}

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

// withOwn adds to this instance's assignment what it says of itself. A plan does not have it.
func (c *Cluster) withOwn(v *view, assignments []Assignment) []Assignment {
	own := c.own.desired()
	at := slices.IndexFunc(assignments, func(p Assignment) bool { return p.ID == own.ID })
	if at >= 0 && !c.cfg.Passive && v.inc.over() == nil {
		assignments[at].Version, assignments[at].Metadata = own.Version, maps.Clone(own.Metadata)
	}
	return assignments
}

// refresh has readers see what this instance says of itself by now. Without a plan the registry
// tells of it.
func (c *Cluster) refresh() {
	if v := c.view.Load(); v.plan != nil && c.view.CompareAndSwap(v, v.anew()) {
		c.changed.send()
	}
}

// owners returns the newest view with all members' assignments.
func (c *Cluster) owners() (*view, *owners) {
	for {
		v := c.view.Load()
		if all := v.all.Load(); all != nil {
			return v, all
		}
		if assignments, ok := c.assignmentsOf(v); ok {
			all := newOwners(v, assignments)
			v.all.Store(all) // some may make it at the same time, which does no harm
			return v, all
		}
	}
}

// assignmentsOf returns all members' assignments in a view. It returns false if the view has been
// replaced: the index that it was computed from may have changed since.
func (c *Cluster) assignmentsOf(v *view) (assignments []Assignment, ok bool) {
	if v.inc == nil {
		return nil, true
	}
	if v.plan != nil {
		return c.withOwn(v, v.inc.hook.detailed(v.plan.assignments())), true
	}
	v.inc.roster.mu.Lock()
	defer v.inc.roster.mu.Unlock()
	switch {
	case v.inc.roster.assigned == nil:
		return v.inc.roster.index.assignments(), c.view.Load() == v
	case !v.state.Active():
		return nil, true
	}
	m := c.own.desired()
	m.Workers = v.state.Workers
	return []Assignment{{Member: m.clone(), Index: v.state.Index}}, true
}
