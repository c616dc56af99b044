package libcluster

import (
	"context"
	"fmt"

	"github.com/libcluster/libcluster/internal/quote"
)

// A draining instance gives its assignment away and stays a member. It asks for that in its
// own record, or an operator does in a record without a lease, which stays until it is taken
// back. The coordinator reads both, and nobody else need know: to give a draining member no
// assignment is a change like any other.
//
// In mode direct every member has its assignment. There an instance that an operator drains removes
// its record, and joins again when that of the operator has gone.

// SetDraining has this instance give its assignment away in a mode with a plan, or take one
// again. While it drains it stays a member. In mode [ModeCooperative] each of its
// partitions moves as soon as its work has stopped, and no other partition notices. In the
// other modes it is as if the instance had left. If all instances drain it is as if none
// did. It is published at once and remembered, as a count of [Cluster.SetWorkers] is, with
// the same errors. In mode [ModeDirect] SetDraining returns an error: there [Cluster.Leave]
// gives the assignment away. An operator can do the same from outside: see [Cluster.Drain].
func (c *Cluster) SetDraining(ctx context.Context, draining bool) error {
	switch {
	case c.cfg.Passive:
		return ErrPassive
	case c.cfg.Mode == ModeDirect:
		return fmt.Errorf("libcluster: SetDraining: in mode %v each member has an assignment; use Leave", c.cfg.Mode)
	}
	err := c.publish(ctx, c.own.ask(
		func(m *Member) { m.plans.draining = draining }, func(m Member) bool { return m.plans.draining == draining },
	))
	if err != nil {
		return fmt.Errorf("libcluster: publish that the instance drains (%t): %w", draining, quote.Error(err))
	}
	return nil
}

// Drain has an instance of this cluster give its assignment away, until [Cluster.Undrain]: it is
// for operators, and any instance that has joined can call it, also a passive one. In a mode
// with a plan the instance stays a member, as with [Cluster.SetDraining], and if all members
// drain it is as if none did. In mode [ModeDirect] the instance removes its record, and joins
// again once it is undrained. In all modes [Cluster.Err] is [ErrDrained] meanwhile.
//
// Drain returns when the registry has what is asked for; the assignment moves after that, and
// [Cluster.Coverage] tells when it has. What is asked for outlives the instance: another one
// with this ID is drained too. It need not be there yet. A cluster drains 10,000 at most.
//
// Drain takes one write, and no longer than some seconds. To drain an instance twice is no
// error. The error is [ErrLeft] before Join, and [ErrCannotPlan] if the registry keeps no plans.
func (c *Cluster) Drain(ctx context.Context, id string) error { return c.askDraining(ctx, id, true) }

// Undrain takes back what [Cluster.Drain] has asked for, with the same errors. To undrain an
// instance that is not drained is no error. It does not take back the instance's own
// [Cluster.SetDraining].
func (c *Cluster) Undrain(ctx context.Context, id string) error { return c.askDraining(ctx, id, false) }

// askDraining writes down what an operator asks for.
func (c *Cluster) askDraining(ctx context.Context, id string, draining bool) error {
	if err := checkName("ID", id); err != nil {
		return fmt.Errorf("libcluster: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, errandTimeout)
	defer cancel()
	inc := c.current()
	if inc == nil {
		return ErrLeft
	}
	planner, ok := inc.session.(Planner)
	if !ok {
		return fmt.Errorf("libcluster: cannot drain %q: %w", id, ErrCannotPlan)
	}
	if err := planner.SetDraining(ctx, id, draining); err != nil {
		return fmt.Errorf("libcluster: ask that %q drains (%t): %w", id, draining, quote.Error(err))
	}
	return nil
}
