package libcluster

import (
	"errors"
	"fmt"

	"github.com/libcluster/libcluster/kv"
)

// StoreFence returns what a transaction of the application's own, in the database that its
// cluster is in, has to depend on: see sqlstore.Store.Guard. The transaction then has an effect
// only while the plan is in force that gave this instance the assignment s, the state that
// the application goes by. So a write that was held up for however long is refused by
// the database itself. The cluster must be on such a store, in a mode with a plan, and s
// this instance's present state; otherwise the error says what is missing, and is
// [ErrRebalanced] if there is a newer one. In mode [ModeCooperative] use
// [Cluster.PartitionFence], which other partitions' moves leave as it is.
//
// It is refused too after a plan that leaves this instance where it is: read the state
// again, and repeat. And there is none while this instance stops for another plan, which is written
// by then, or leaves: what it writes last has to be done before, or be guarded by another
// token. (A partition has a fence until it is released.)
func (c *Cluster) StoreFence(s State) (kv.Fence, error) {
	session, plan, err := c.fencedBy(s)
	if err != nil {
		return kv.Fence{}, err
	}
	if session == nil || plan == nil {
		return kv.Fence{}, fmt.Errorf("libcluster: no fence: the cluster must be on a store and in a mode with a plan, and is in mode %v", c.cfg.Mode)
	}
	return session.planFence(plan.revision), nil
}

// fencedBy returns the session of a state, if that is on a store, and the plan, if there is one.
// The error says why nothing may be done under the state.
func (c *Cluster) fencedBy(s State) (Planner, *planView, error) {
	v := c.view.Load()
	switch why := v.reason(); {
	case why != nil:
		return nil, nil, why
	case !s.Active() || !v.state.Active():
		return nil, nil, errors.New("libcluster: no fence: this instance has no assignment")
	case s.Generation != v.state.Generation:
		return nil, nil, fmt.Errorf("libcluster: no fence for generation %d: %w", s.Generation, ErrRebalanced)
	}
	if v.inc == nil {
		return nil, nil, nil
	}
	session, _ := v.inc.session.(Planner)
	return session, v.plan, nil
}

// PartitionFence is [Cluster.StoreFence] in mode [ModeCooperative]: the transaction has an
// effect only while no other instance can have got this one partition, whatever becomes of the others.
//
// It can be had for as long as the instance may act on the partition: also for the last writes
// in [Config.OnRevoked] and in a function of [Cluster.RunPartitions] whose context has ended,
// since the partition moves or the instance leaves. It cannot be had when these have
// returned, nor when the deadline has passed. Then the error is that of [Cluster.Err], or wraps
// [ErrRebalanced] if there is none.
//
// It is refused too if this instance has released another partition since the fence was made:
// make another one, and repeat.
func (c *Cluster) PartitionFence(p Partition) (kv.Fence, error) {
	_, fence, err := c.fencedByPartition(p)
	return fence, err
}

// fencedByPartition returns the session that may act on a partition, with a fence.
//
// What the session has released it says in a note, and another instance gets it after that,
// or after the record has gone: removed when the instance leaves, or expired. So the record,
// and the note at a version that it had before the release was acknowledged, prove together that
// nobody else has got the partition.
//
// The order in which it looks is the reason why the version is such a one. The application says
// that it has stopped, and then that is acknowledged, and then the note has another version.
// Whatever the note taken here may acknowledge was said before. If it was said for the plan of
// the view, then said tells so. If it was for an earlier plan, the view that followed does not
// have the partition any more: see [planView.unsaid].
func (c *Cluster) fencedByPartition(p Partition) (session Planner, f kv.Fence, err error) {
	inc := c.view.Load().inc
	if inc != nil && c.cfg.Mode == ModeCooperative && !c.cfg.Passive {
		session = inc.planner()
	}
	if session == nil {
		return nil, f, fmt.Errorf("libcluster: no fence for a partition: the cluster must be joined in mode cooperative, and is in mode %v", c.cfg.Mode)
	}
	f = session.noteFence()
	said := inc.drain.stopped.Load()
	v := c.view.Load()
	// An instance that leaves ends the context before it removes its record.
	if v.inc == inc && inc.fenced() == nil && inc.ctx.Err() == nil && v.mayActOn(p, said) {
		return session, f, nil
	}
	if why := v.reason(); why != nil {
		return nil, kv.Fence{}, why
	}
	return nil, kv.Fence{}, fmt.Errorf("libcluster: no fence for partition %d by token %d: %w", p.Number, p.Token, ErrRebalanced)
}
