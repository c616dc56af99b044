package libcluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libcluster/libcluster/internal/quote"
	"github.com/libcluster/libcluster/kv"
)

// A draining instance gives its assignment away and stays a member. It asks for that in its
// own record, or an operator does in a record without a lease, which stays until it is taken
// back. The coordinator reads both, and nobody else need know: to give a draining member no
// place is a change like any other.
//
// In mode direct every member has its place. There an instance that an operator drains removes
// its record, and joins again when that of the operator has gone.

// drainingKeys are the keys of what operators ask for, each with an instance's ID.
const drainingKeys = publicKeys + "draining/"

// mostDraining is how many of them count.
const mostDraining = 10_000

// errIdle is why a draining member has no assignment.
var errIdle = fmt.Errorf("%w: %w", ErrWaiting, ErrDrained)

// SetDraining has this instance give its assignment away in a mode with a plan, or take one
// again. While it drains it stays a member. In mode [ModeCooperative] each of its partitions
// moves as soon as its work has stopped, and no other partition notices. In the other modes it is as if the instance had left. If
// all instances drain it is as if none did. It is published at once and remembered, as a count of
// [Cluster.SetWorkers] is, with the same errors. In mode [ModeDirect] SetDraining returns an
// error: there [Cluster.Leave] gives the assignment away. An operator can do the same from
// outside: see [Cluster.Drain].
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

// SetDraining writes or deletes what an operator asks for. The value is for people.
func (s *storeSession) SetDraining(ctx context.Context, id string, draining bool) error {
	tx := kv.Tx{Delete: []string{drainingKeys + id}}
	if draining {
		tx = kv.Tx{Put: []kv.Record{{Key: drainingKeys + id, Value: time.Now().UTC().AppendFormat(nil, time.RFC3339)}}}
	}
	return s.insist(ctx, func(ctx context.Context) error {
		_, err := s.space.Commit(ctx, tx)
		return err
	})
}

// drains reports whether an operator drains an instance.
func (now *Planning) drains(id string) bool {
	_, drains := slices.BinarySearch(now.Draining, id)
	return drains
}

// reflectDraining notes what an operator asks for, in a slice of its own: others have the one
// before.
func (now *Planning) reflectDraining(id string, gone bool) {
	at, known := slices.BinarySearch(now.Draining, id)
	switch {
	case known && gone:
		now.Draining = slices.Delete(slices.Clone(now.Draining), at, at+1)
	case !known && !gone && len(now.Draining) < mostDraining && checkName("ID", id) == nil:
		now.Draining = slices.Insert(slices.Clone(now.Draining), at, id)
	}
}

// isDrained reports whether a record of this space has this session leave.
func (s *storeSession) isDrained(key string) bool {
	id, order := strings.CutPrefix(key, drainingKeys)
	return order && id == s.id && s.mode == ModeDirect && !s.passive
}

// awaitUndrained returns an error while what has had this membership leave is still there. So a
// drained instance reads, and begins nothing.
func (s *storeSession) awaitUndrained(ctx context.Context) error {
	if !s.attempts.drained {
		return nil
	}
	found, _, err := s.get(ctx, drainingKeys+s.id)
	if err == nil && found.Version != 0 {
		err = ErrDrained
	}
	s.attempts.drained = err != nil
	return err
}

// serves returns which members are to be given something: those that do not drain, or all if
// nobody else is there.
func serves(members []Recorded) func(Recorded) bool {
	all := !slices.ContainsFunc(members, func(m Recorded) bool { return !m.plans.draining && !m.kept })
	return func(m Recorded) bool { return all || !m.plans.draining }
}
