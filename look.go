package libcluster

import (
	"context"
	"fmt"

	"github.com/libcluster/libcluster/internal/quote"
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

// Primary returns the member whose index is 0, this instance itself if it is the one, with
// all that it publishes. (In a mode with a plan the Version and Metadata of others are known
// only with [Config.WatchMembers], [Config.OnMembers] or [Config.Superseded].) False means that
// it is not known, as before the first Join, or in a static cluster on any other instance. Like
// [Cluster.OwnerOf] it may be called for each request; the member is shared with other callers,
// and its Metadata must not be changed.
//
// What it returns is what this instance knows. The primary may have been lost meanwhile, and
// only in modes [ModeExclusive] and [ModeCooperative] no other instance acts as the primary by then.
func (c *Cluster) Primary() (Assignment, bool) {
	_, o := c.owners()
	return o.owner(0)
}

// OwnerOf returns the member that owns a key, as far as this instance knows. It is for
// an instance that hands work to others: a front end, as a rule passive, that passes a
// request on to the owner's Address. It agrees with [State.Owns] on that member in the
// same generation. False means that the owner is not known: there is no member, or the
// cluster is static, where this instance knows only itself.
//
// OwnerOf is fast enough to be called for each request, and takes a lock only the first
// time after a change. The member is shared with other callers: its Metadata must not be
// changed. As with [Cluster.Members], an instance that was fenced or has left uses the
// last list that it knew.
func (c *Cluster) OwnerOf(key string) (Assignment, bool) {
	_, o := c.owners()
	return o.owner(Slot(key, o.total))
}

// Coverage reads from the registry whether every worker index is held exactly once
// right now, by which instance, and what is wrong if not. Any instance that has joined
// can call it, also a passive or a fenced instance. It takes one read, and no longer than
// some seconds.
//
// The answer is what the registry knows: an instance that has crashed, or was cut off,
// counts until its record expires. In mode [ModeDirect] assignments follow from the
// records. So they have neither gaps nor overlaps, except for the moment that a change
// takes to reach all instances; what can go wrong is that a record belongs to no instance.
//
// In a static cluster, and if the registry keeps no plans, the error is [ErrCannotLook].
func (c *Cluster) Coverage(ctx context.Context) (Coverage, error) {
	ctx, cancel := context.WithTimeout(ctx, errandTimeout)
	defer cancel()
	inc := c.current()
	if inc == nil {
		return Coverage{}, ErrLeft
	}
	for {
		planner, ok := inc.session.(Planner)
		if !ok {
			return Coverage{}, ErrCannotLook
		}
		survey, err := planner.Look(ctx)
		if err == nil {
			found := cover(c.cfg.scheme(), survey)
			found.Since = c.saw(found.Covered)
			return found, nil
		}
		next := c.current()
		if next == nil || next == inc {
			c.stats.failed(RegistryLook, err)
			return Coverage{}, fmt.Errorf("libcluster: cannot see which instance holds which index: %w", quote.Error(err))
		}
		inc = next // the session was closed because there is another one
	}
}

// Stats returns what has happened to this instance so far. It asks nobody, and takes no lock
// that anybody holds for longer than some instructions: it returns at once whatever the
// registry does, and delays nothing.
func (c *Cluster) Stats() Stats {
	s := c.stats.snapshot()
	if inc := c.current(); inc != nil {
		if left, ends := inc.remaining(); ends {
			s.HasDeadline, s.UntilDeadline = true, max(left, 0)
		}
	}
	s.Coverage = c.covered.latest()
	return s
}
