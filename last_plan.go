package libcluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
)

// closePlan is called when the application has stopped for good, before the record is
// removed. The last instance to leave writes an empty plan. Acknowledgements expire with
// their leases: without an empty plan, the next instance to join would wait for all that
// have left as if they had vanished. Several instances may leave at once, so each first
// acknowledges that it has stopped, and then looks whether it is the last. If closePlan
// fails, that costs only such a wait.
func (m *membership) closePlan(ctx context.Context, p Planner) {
	v := m.view.Load()
	if v.plan == nil {
		return
	}
	revision := v.plan.revision
	var survey Survey
	for tries := 0; ; tries++ {
		err := p.Acknowledge(ctx, revision, StoppedForGood, "")
		if err != nil && !errors.Is(err, ErrPlanChanged) || tries > 2 {
			return
		}
		var trouble error
		if survey, trouble = p.Survey(ctx, 0); trouble != nil {
			return
		}
		if err == nil {
			break
		}
		revision = survey.Planning.Revision
	}
	known := m.known.Load()
	stopped := func(incarnation string) bool { return survey.Acknowledged[incarnation] == StoppedForGood }
	last, err := parsePlan(survey.Plan)
	if err != nil || !credible(last.generation, clockGeneration()) || last.scheme() != m.cfg.scheme() || known != nil && last.generation < known.generation ||
		slices.ContainsFunc(last.lines, func(l planned) bool { return !stopped(l.incarnation) }) ||
		slices.ContainsFunc(survey.Members, func(m Recorded) bool { return m.reserved || !stopped(m.Incarnation) }) {
		return
	}
	nobody := plan{mode: m.cfg.Mode, total: m.cfg.Partitions, committed: true, generation: last.generation + 1}
	err = m.claimForLast(ctx, p, survey.Planning.Revision)
	if err == nil {
		err = p.Swap(ctx, survey.Planning.Revision, nobody.encode())
	}
	if err != nil && !errors.Is(err, ErrPlanChanged) {
		m.log.Debug("could not leave an empty plan", zap.Error(err))
	}
}

// lastClaimTimeout is how long the last instance to leave tries to become the coordinator.
const lastClaimTimeout = time.Second

// claimForLast makes the last instance to leave the coordinator, since only the coordinator
// may swap. If the coordinator leaves at the same time, it has the claim for a moment yet:
// then Next tells when the claim is free. The balancer, whose Next it was, has ended. If
// there is a later plan than that of the revision by then, another instance was the last.
func (m *membership) claimForLast(ctx context.Context, p Planner, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, lastClaimTimeout)
	defer cancel()
	for {
		claimed, err := p.Claim(ctx, []byte(m.cfg.scheme().String()+"\t"+p.Incarnation()))
		if claimed || err != nil {
			return err
		}
		change, err := p.Next(ctx)
		if err != nil {
			return err
		}
		if change.Planned != nil && change.Planned.Revision > revision {
			return ErrPlanChanged
		}
	}
}
