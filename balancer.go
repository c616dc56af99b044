package libcluster

import (
	"fmt"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// balancer owns an incarnation's roster: it waits for changes and publishes the states that
// result. It is one goroutine, and ends with the incarnation.
type balancer struct {
	*incarnation
	coordinator *coordinator // in a mode with a plan
}

func newBalancer(inc *incarnation) balancer { return balancer{inc, &coordinator{inc: inc}} }

func (b balancer) balance() {
	defer b.drain.end()
	again := b.newRetry()
	for {
		change, err := b.session.Next(b.ctx)
		switch {
		case b.ctx.Err() != nil:
			return
		case err == nil:
			again.reset()
			b.apply(change)
			continue
		case isFinal(err):
			b.end(err)
			return
		}
		b.note(err)
		b.stats.failed(RegistryWatch, err)
		b.report(zap.WarnLevel, "cannot watch the cluster, will keep trying", zap.Error(err))
		if !again.wait(b.ctx) {
			return
		}
	}
}

// apply computes the state after a change and publishes it.
func (b balancer) apply(change Change) {
	b.tellMembers(change)
	defer b.news.look() // at the view that follows
	if b.cfg.Mode != ModeDirect {
		if v := b.view.Load(); v.inc == b.incarnation && (change.Reset || len(change.Events) > 0) {
			b.view.Store(v.anew())
			b.changed.send()
		}
		if change.Planned != nil {
			b.applyPlan(change.Planned)
		}
		return
	}
	before := b.view.Load()

	b.roster.mu.Lock()
	foreign := b.roster.apply(change)
	total, tooMany := b.roster.latest.total, b.roster.tooMany()
	refused := before.inc != b.incarnation && foreign.mode != ModeDirect
	now := (&view{state: b.compute(change.Generation), inc: b.incarnation}).after(before)
	if !refused && !tooMany {
		b.show(now)
	}
	speaks := false
	if tooMany || len(change.foreign) > 0 {
		id, _ := b.roster.latest.firstThere()
		speaks = id == b.cfg.ID && !b.cfg.Passive
	}
	b.roster.mu.Unlock()

	b.reportForeign(change.foreign, speaks)
	switch {
	case refused && b.isFirst(before):
		b.fail(b.cfg.scheme().refuses(foreign)) // the members of that mode were there first
	case refused:
		// Members of another mode have come while this instance was away. Readers keep the
		// last view, and learn why there is no other.
		why := b.cfg.scheme().refuses(foreign)
		before.inc.explain(why)
		b.end(why)
	case tooMany:
		// The instance that came last is being refused, or somebody has put an absurd
		// count. No instance's index shifts for that.
		b.report(levelOf(zap.ErrorLevel, speaks), "the cluster's total is too large; keeping the last state", zap.Error(errTotal(total)))
		if b.isFirst(before) {
			b.fail(errTotal(total))
		}
	default:
		b.logMembers(now)
		if before.inc != b.incarnation || !now.state.sameTo(before.state) {
			b.wake()
		}
	}
}

// tellMembers has the application told of members. In a static cluster that is this instance.
func (b balancer) tellMembers(change Change) {
	if a := change.Assigned; a != nil && !b.cfg.Passive {
		own := b.own.desired()
		own.Workers = a.Workers
		change = Change{Reset: true, Events: []Event{{Member: own}}}
	}
	b.news.take(change)
}

// show has readers see a new view, and tells the registry.
func (b balancer) show(v *view) {
	b.view.Store(v)
	b.changed.send()
	b.in.Assigned(v.state)
}

// isFirst reports whether the membership has had no view yet.
func (b balancer) isFirst(before *view) bool {
	return before.inc == nil || before.inc.membership != b.membership
}

// compute returns the state of the index. The caller holds the roster's mutex.
func (b balancer) compute(generation int64) State {
	state := State{Index: -1, Workers: b.cfg.Workers, Total: int(b.roster.index.total), Generation: generation}
	if !b.cfg.Registry.Capabilities().Agreed {
		state.Generation = 0
	}
	if a := b.roster.assigned; a != nil {
		state.Index, state.Workers, state.Total = a.Index, a.Workers, a.Total
	} else if base, workers := b.roster.index.own(); base >= 0 && !b.cfg.Passive {
		state.Index, state.Workers = base, workers
	}
	return state
}

// logMembers logs the assignments at Debug: the first of many, in one line.
func (b balancer) logMembers(v *view) {
	if !b.log.Core().Enabled(zapcore.DebugLevel) {
		return
	}
	var assignments []string
	all, _ := b.assignmentsOf(v)
	for _, p := range all {
		assignments = append(assignments, fmt.Sprintf("%s [%d]", p.ID, p.Index))
	}
	b.log.Debug("re-balancing", zap.Int64("generation", v.state.Generation), zap.Int("total", v.state.Total),
		zap.String("members", some(assignments)))
}
