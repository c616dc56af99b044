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
// the database itself. The cluster must be on such a store, in mode [ModePlanned] or
// [ModeExclusive], and s this instance's present state; otherwise the error says what is
// missing, and is [ErrRebalanced] if there is a newer one.
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
