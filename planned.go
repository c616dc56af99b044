package libcluster

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"
)

// planView is what readers see of a plan. It never changes.
type planView struct {
	text        []byte
	coordinator []byte
	prepare     *prepare     // not nil: this incarnation is waited for
	releases    partitionSet // and in mode cooperative: with these
	outgoing    *holding     // what this incarnation had been granted when a plan took it back: see unsaid
	spare       bool         // there is nothing for this instance: it drains, or in mode cooperative there are too few partitions
	revision    int64        // of the plan
	generation  int64
}

// knownPlan is the newest plan that an instance knows of.
type knownPlan struct {
	generation int64
	text       []byte
}

// learn notes a plan, unless it is older than one that is known.
func (c *Cluster) learn(p *knownPlan) {
	for {
		known := c.known.Load()
		if known != nil && p.generation < known.generation || c.known.CompareAndSwap(known, p) {
			return
		}
	}
}

// heard is what a member makes of the plan that its registry tells.
type heard struct {
	plan    *plan    // nil: there is none that counts
	own     *planned // this incarnation's line in it
	late    bool     // it is older than one that this instance knows
	foreign bool     // it is of a cluster of another mode
	err     error    // why it is none
}

// hear reads a plan. known is the newest one that this instance has heard of, if any.
func hear(text []byte, incarnation string, of scheme, known *knownPlan, clock int64) (h heard) {
	p, own, err := findPlanned(text, incarnation)
	switch {
	case err != nil:
		h.err = err
	case !credible(p.generation, clock):
		h.err = fmt.Errorf("plan: generation %d is of a time a century ahead", p.generation)
	case p.scheme() != of:
		h.foreign = true
	case known != nil && p.generation < known.generation:
		h.late = true
	default:
		h.plan, h.own = p, own
	}
	return h
}

// applyPlan computes the state after a change of the plan, and publishes it.
func (b balancer) applyPlan(now *Planning) {
	own := b.c.cfg.scheme()
	if err := sameMode(own, now.Coordinator); err != nil {
		b.refuse(err)
		b.report(zap.ErrorLevel, "the cluster runs in another mode", zap.Error(err))
		return
	}
	if !b.c.cfg.Passive {
		b.coordinator.heard(now.Coordinator)
	}
	before, speaks := b.c.view.Load(), b.speaks(now.Coordinator)
	h := hear(now.Plan, b.id(), own, b.c.known.Load(), clockGeneration())
	switch {
	case h.plan != nil:
		b.c.learn(&knownPlan{h.plan.generation, now.Plan})
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

// listener is what the view of a plan depends on besides the plan, and the view before.
type listener struct {
	inc     *incarnation // only named here
	workers int
	passive bool
	drains  bool       // the instance is to give its assignment away
	known   *knownPlan // the newest plan of which the instance has heard; nil: none
	stopped *stopped   // the latest that the application has stopped; nil: nothing
}

func (b balancer) listener(now *Planning) listener {
	cfg := &b.c.cfg
	return listener{
		inc: b.incarnation, workers: cfg.Workers, passive: cfg.Passive,
		drains: now.drains(cfg.ID) || b.c.own.desired().plans.draining,
		known:  b.c.known.Load(), stopped: b.drain.stopped.Load(),
	}
}

// viewOf returns the view that follows from what was heard.
//
// If no plan counts, there is none yet, or it is a mistake, or a cluster of another mode has
// left it, or the store has gone back behind a newer plan. A coordinator will make
// a new plan, this instance if no other does. The range that this instance holds by
// the last plan cannot go to another instance before this one has heard of it.
func (l listener) viewOf(h heard, now *Planning, before *view) *view {
	v := &view{inc: l.inc, state: State{Index: -1, Workers: l.workers}, plan: &planView{coordinator: now.Coordinator}}
	if !l.passive {
		v.why = ErrWaiting
	}
	switch {
	case h.plan == nil && before.inc == l.inc:
		v.state, v.why, v.plan = before.state, before.why, before.plan.says(now.Coordinator)
	case h.plan == nil:
		if l.known != nil {
			v.state.Generation = l.known.generation
		}
	default:
		v.plan.text, v.plan.revision, v.plan.generation = now.Plan, now.Revision, h.plan.generation
		v.state.Total, v.state.Generation = h.plan.total, h.plan.generation
		switch {
		case h.own == nil || l.passive:
		case h.plan.mode == ModeCooperative:
			v.hold(h, before, l.stopped)
		default:
			v.assign(h)
		}
		if v.why != nil && l.drains {
			v.why, v.plan.spare = errIdle, h.plan.committed
		}
	}
	return v
}

// assign fills in what the plan gives this instance, or that it has to stop.
func (v *view) assign(h heard) {
	if h.plan.committed {
		v.state.Index, v.state.Workers, v.why = h.own.Index, h.own.Workers, nil
		return
	}
	v.state.Workers = h.own.Workers
	if h.own.Index >= 0 {
		v.state.Total -= h.own.Workers
	}
	v.plan.prepare = &prepare{v.plan.revision, h.plan.generation}
}

// isSpare reports whether there is nothing for this instance, until members change.
func (v *view) isSpare() bool { return v.plan != nil && v.plan.spare }

// hold fills in which partitions the plan gives this instance, and which it has to stop.
func (v *view) hold(h heard, before *view, said *stopped) {
	var held, outgoing *holding
	if before.inc == v.inc {
		held, outgoing = before.state.held, before.plan.unsaid(said)
	}
	v.state.held, v.plan.outgoing = held.next(h.own.held, h.plan.generation), outgoing.or(held.less(h.own.held))
	v.state.Index, v.state.Workers = h.own.Index, h.own.Workers
	if v.state.Active() {
		v.why = nil
	}
	v.plan.spare = h.plan.committed && !v.state.Active()
	if len(h.own.releases) > 0 {
		v.plan.prepare, v.plan.releases = &prepare{v.plan.revision, h.plan.generation}, h.own.releases
	}
}

// unsaid returns what the incarnation is to release, or was, and has not said yet that it has
// stopped, with the tokens by which it was held. said is what the application had stopped
// before the view of this plan was loaded.
//
// What has been said for an earlier plan is not in it any more: an acknowledgement that is sent
// when the next plan has been heard has no effect.
func (p *planView) unsaid(said *stopped) *holding {
	if p.prepare == nil || said == nil || said.generation != p.prepare.generation {
		return p.outgoing
	}
	remaining, err := parsePartitions(said.remaining, MaxPartitions)
	if err != nil {
		return nil
	}
	return p.outgoing.less(p.releases.minus(remaining))
}

// mayActOn reports whether the incarnation may act on a partition by its token, if it is not
// over: it holds the partition, or has not said yet that it has stopped it.
func (v *view) mayActOn(p Partition, said *stopped) bool {
	for _, h := range []*holding{v.state.held, v.plan.unsaid(said)} {
		if token, held := h.token(p.Number); held && token == p.Token {
			return true
		}
	}
	return false
}

// obey begins to stop for a plan that asks for that, and notes a committed one.
func (b balancer) obey(h heard, v *view) {
	if v.plan.prepare != nil {
		b.drain.begin(*v.plan.prepare, v.plan.releases, window(b.c.cfg.TTL)/slowDrainPart, b.c.cfg.DrainTimeout)
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
			b.c.cfg.TTL, mostWindows, its.ID)
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

// says returns the same plan after the coordinator has said something else.
func (p *planView) says(coordinator []byte) *planView {
	if p == nil {
		return &planView{coordinator: coordinator}
	}
	now := *p
	now.coordinator = coordinator
	return &now
}

// assignments returns the members with their ranges, by index.
func (p *planView) assignments() []Assignment {
	all, err := parsePlan(p.text)
	if err != nil {
		return nil
	}
	var assignments []Assignment
	named := make(map[string]bool, len(all.lines))
	for _, l := range all.lines {
		// In mode cooperative an incarnation that has vanished comes after its successor.
		if l.Index >= 0 && !named[l.ID] {
			named[l.ID] = true
			assignments = append(assignments, l.Assignment)
		}
	}
	return assignments
}

// blockers returns the instances that the coordinator says it waits for. After its first
// line there is one line for each, with the time and the ID.
func (v *view) blockers() (all []Blocker) {
	if v.plan == nil || v.inc.over() != nil {
		return nil
	}
	return parseBlockers(v.plan.coordinator)
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
	return !b.c.cfg.Passive && (coordinator == nil || who == b.id())
}
