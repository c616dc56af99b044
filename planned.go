package libcluster

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"
)

// applyPlan computes the state after a change of the plan, and publishes it.
func (b balancer) applyPlan(now *Planning) {
	own := b.cfg.scheme()
	if err := sameMode(own, now.Coordinator); err != nil {
		b.refuse(err)
		b.report(zap.ErrorLevel, "the cluster runs in another mode", zap.Error(err))
		return
	}
	if !b.cfg.Passive {
		b.coordinator.heard(now.Coordinator)
	}
	before, speaks := b.view.Load(), b.speaks(now.Coordinator)
	h := hear(now.Plan, b.id(), own, b.known.Load(), clockGeneration())
	switch {
	case h.plan != nil:
		b.learn(&knownPlan{h.plan.generation, now.Plan})
	case h.late && before.inc == b.incarnation && before.plan.generation > 0:
		b.end(fmt.Errorf("%w: the plan is older than that of generation %d", ErrRegistryReset, before.plan.generation))
		return
	case len(now.Plan) > 0:
		b.report(levelOf(zap.WarnLevel, speaks), "ignoring a plan that is none of this cluster's",
			zap.Bool("of the past", h.late), zap.Bool("of another mode", h.foreign), zap.Error(h.err))
	}
	v := b.listener(now).viewOf(h, now, before)
	if h.plan != nil {
		b.obey(h, v)
	}
	if v.why != nil {
		b.note(b.whyWaiting(v, h))
	}
	b.show(v.after(before))
	if h.plan != nil && h.plan.committed && (before.inc != b.incarnation || before.plan.revision != v.plan.revision) {
		b.logMembers(v)
	}
	b.logBlockers(before.blockers(), v.blockers(), speaks)
	if before.inc != b.incarnation || v.plan.prepare != nil || v.isSpare() || !v.state.sameTo(before.state) {
		b.wake()
	}
}

func (b balancer) listener(now *Planning) listener {
	cfg := &b.cfg
	return listener{
		inc: b.incarnation, workers: cfg.Workers, passive: cfg.Passive,
		drains: now.drains(cfg.ID) || b.own.desired().plans.draining,
		known:  b.known.Load(), stopped: b.drain.stopped.Load(),
	}
}

// obey begins to stop for a plan that asks for that, and notes a committed one.
func (b balancer) obey(h heard, v *view) {
	if v.plan.prepare != nil {
		b.drain.begin(*v.plan.prepare, v.plan.releases, window(b.cfg.TTL)/slowDrainPart, b.cfg.DrainTimeout)
	}
	if !h.plan.committed && h.plan.mode != ModeCooperative {
		b.roster.keep(nil)
		return
	}
	if v.plan.prepare == nil {
		b.drain.end()
	}
	b.roster.keep(h.own)
}

// whyWaiting returns the error for a Join that ends while it waits. It also ends a Join
// that cannot succeed.
func (b balancer) whyWaiting(v *view, h heard) error {
	if errors.Is(v.why, ErrDrained) {
		return v.why
	}
	if h.plan != nil && h.plan.committed && h.own == nil {
		if err := b.noRoom(v, h.plan); err != nil {
			b.refuse(err)
			return err
		}
	}
	if blockers := v.blockers(); len(blockers) > 0 {
		return fmt.Errorf("%w; the others wait for %s to stop", ErrWaiting, idsOf(blockers))
	}
	if _, wait, held := bytes.Cut(v.plan.coordinator, []byte("\n"+newcomersWait+"\t")); held {
		wait, _, _ = bytes.Cut(wait, []byte("\n"))
		return fmt.Errorf("%w; newcomers have to wait for %.20q, since others have come and soon vanished", ErrWaiting, wait)
	}
	return ErrWaiting
}

// noRoom tells why no coordinator like the present one gives this instance an assignment.
func (b balancer) noRoom(v *view, p *plan) error {
	m := b.registration().Member
	if p.mode != ModeCooperative && p.total > MaxWorkers-m.Workers {
		return errTotal(int64(p.total) + int64(m.Workers))
	}
	if len(v.plan.text) > maxPlan/4 {
		size := roomFor(b.id(), m)
		if all, err := parsePlan(v.plan.text); err == nil {
			for _, l := range all.lines {
				size += roomFor(l.incarnation, l.Member)
			}
		}
		if most := roomIn(p.mode); size > most {
			return fmt.Errorf("libcluster: the members in the cluster's plan would take up to %d bytes, more than %d: "+
				"too many instances, or too long IDs and addresses", size, most)
		}
	}
	_, coordinator, _ := strings.Cut(firstLine(v.plan.coordinator), "\t")
	_, its, err := findPlanned(v.plan.text, coordinator)
	if err == nil && its != nil && m.plans.window > mostWindows*its.window {
		return fmt.Errorf("libcluster: TTL %v is more than %d times that of %q, which coordinates: the others would have to wait as long for this instance",
			b.cfg.TTL, mostWindows, its.ID)
	}
	return nil
}

// sameMode returns an error if the coordinator has another mode.
func sameMode(own scheme, coordinator []byte) error {
	name, _, _ := strings.Cut(firstLine(coordinator), "\t")
	its, err := parseScheme(name)
	if coordinator == nil || err != nil || its == own {
		return nil // nobody coordinates, or no coordinator has written this, so it says nothing
	}
	return own.refuses(its)
}

// logBlockers says how a wait begins and ends. The coordinator warns meanwhile that it
// lasts.
func (b balancer) logBlockers(before, now []Blocker, speaks bool) {
	switch {
	case len(now) > 0 && idsOf(before) != idsOf(now):
		b.log.Debug("the cluster has to wait", zap.String("for", idsOf(now)))
	case len(before) > 0 && len(now) == 0:
		b.log.Log(levelOf(zap.InfoLevel, speaks), "the cluster waits no longer for an instance", zap.String("for", idsOf(before)))
	}
}

// speaks reports whether this instance is the one to warn of what concerns the cluster:
// the coordinator, or each if there is none.
func (b balancer) speaks(coordinator []byte) bool {
	_, who, _ := strings.Cut(firstLine(coordinator), "\t")
	return !b.cfg.Passive && (coordinator == nil || who == b.id())
}
