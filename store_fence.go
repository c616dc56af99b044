package libcluster

import (
	"errors"
	"fmt"

	"github.com/libcluster/libcluster/kv"
)

// StoreFence returns what a transaction of the application's own, in the database that its
// cluster is in, has to depend on: see sqlstore.Store.Guard. The transaction then has an effect
// only while the plan is in force that gave this instance the place s, the state that
// the application goes by. So a write that was held up for however long is refused by
// the database itself. The cluster must be on such a store, in a mode with a plan, and s
// this instance's present state; otherwise the error says what is missing, and is
// [ErrRebalanced] if there is a newer one. In mode [ModeCooperative] use
// [Cluster.PartitionFence], which other partitions' moves leave as it is.
//
// It is refused too after a plan that leaves this instance where it is: read the state
// again, and repeat.
func (c *Cluster) StoreFence(s State) (kv.Fence, error) {
	session, plan, err := c.fencedBy(s)
	if err != nil {
		return kv.Fence{}, err
	}
	if session == nil || plan == nil {
		return kv.Fence{}, fmt.Errorf("libcluster: no fence: the cluster must be on a store and in a mode with a plan, and is in mode %v", c.cfg.Mode)
	}
	return kv.Fence{
		Space: session.attempts.reg.Cluster(), Key: planKey,
		Mark: kv.Mark{Store: session.latest().Store, Revision: plan.revision},
	}, nil
}

// fencedBy returns the session of a state, if that is on a store, and the plan, if there is one.
// The error says why nothing may be done under the state.
func (c *Cluster) fencedBy(s State) (*storeSession, *planView, error) {
	v := c.view.Load()
	switch why := v.reason(); {
	case why != nil:
		return nil, nil, why
	case !s.Active() || !v.state.Active():
		return nil, nil, errors.New("libcluster: no fence: this instance holds no place")
	case s.Generation != v.state.Generation:
		return nil, nil, fmt.Errorf("libcluster: no fence for generation %d: %w", s.Generation, ErrRebalanced)
	}
	if v.inc == nil {
		return nil, nil, nil
	}
	if p, ok := v.inc.session.(Planner); ok {
		return p.onStore(), v.plan, nil
	}
	return nil, v.plan, nil
}

// PartitionFence is [Cluster.StoreFence] in mode [ModeCooperative]: the transaction has an
// effect only while this instance holds one partition, whatever becomes of the others. If the
// instance holds it no more, or anew, the error wraps [ErrRebalanced].
//
// It is refused too if this instance has released another partition since the fence was made:
// make another one, and repeat.
func (c *Cluster) PartitionFence(p Partition) (kv.Fence, error) {
	_, fence, err := c.fencedByPartition(p)
	return fence, err
}

// fencedByPartition returns the session that holds a partition, with a fence.
//
// What the session has released it says in a note, and another instance gets it after that,
// or after the record has gone. So the note, at the version that it had while the partition
// was held, and the record prove together that the partition has not moved.
func (c *Cluster) fencedByPartition(p Partition) (session *storeSession, f kv.Fence, err error) {
	inc := c.view.Load().inc
	if inc != nil && c.cfg.Mode == ModeCooperative && !c.cfg.Passive {
		session = inc.planner().onStore()
	}
	if session == nil {
		return nil, f, fmt.Errorf("libcluster: no fence for a partition: the cluster must be joined in mode cooperative, and is in mode %v", c.cfg.Mode)
	}
	f = session.noteFence() // before the view is asked: what is released after that has another version
	v := c.view.Load()
	if why := v.reason(); why != nil {
		return nil, kv.Fence{}, why
	}
	if token, held := v.state.held.token(p.Number); v.inc != inc || !held || token != p.Token {
		return nil, kv.Fence{}, fmt.Errorf("libcluster: no fence for partition %d by token %d: %w", p.Number, p.Token, ErrRebalanced)
	}
	return session, f, nil
}

// noteFence is the session's note as it is now, beside the record.
func (s *storeSession) noteFence() kv.Fence {
	s.mu.Lock()
	defer s.mu.Unlock()
	return kv.Fence{
		Space: s.attempts.reg.Cluster(), Key: acknowledgedKeys + s.Incarnation(), Mark: kv.Mark{Store: s.mark.Store, Revision: s.note.Version},
		Member: s.id, Owner: s.owner,
	}
}
