package libcluster

import (
	"fmt"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// balance is the goroutine that owns an incarnation's index: it waits for
// changes and publishes the state that results. It ends with the incarnation.
func (s *stay) balance(inc *incarnation) {
	defer inc.drain.end()
	again := s.c.newRetry()
	for {
		change, err := inc.session.Next(inc.ctx)
		switch {
		case inc.ctx.Err() != nil:
			return
		case err == nil:
			again.reset()
			s.apply(inc, change)
			continue
		case isFinal(err):
			inc.end(err)
			return
		}
		s.note(err)
		s.report(zap.WarnLevel, "cannot watch the cluster, will keep trying", zap.Error(err))
		if !again.wait(inc.ctx) {
			return
		}
	}
}

// apply computes the state after a change and publishes it.
func (s *stay) apply(inc *incarnation, change Change) {
	if change.Planned != nil {
		s.applyPlan(inc, change.Planned)
		return
	}
	before := s.c.view.Load()
	first := before.inc == nil || before.inc.stay != s

	inc.mu.Lock()
	if inc.latest == inc.index && inc.index.exceeds(change) {
		inc.latest = inc.index.clone() // readers keep the index of the last state
	}
	foreign := inc.latest.apply(change)
	total := inc.latest.total
	tooMany := total > MaxWorkers
	if !tooMany {
		inc.index = inc.latest
	}
	if change.Assigned != nil {
		inc.assigned = change.Assigned
	}
	now := (&view{state: s.compute(inc, change.Generation), inc: inc}).after(before)
	refused := before.inc != inc && foreign != ModeDirect
	if !refused && !tooMany {
		s.c.view.Store(now)
	}
	speaks := false
	if tooMany || len(change.foreign) > 0 {
		id, _ := inc.latest.firstThere()
		speaks = id == s.c.cfg.ID && !s.c.cfg.Passive
	}
	inc.mu.Unlock()
	s.reportForeign(change.foreign, speaks)

	if refused && first {
		s.fail(&ModeError{ModeDirect, foreign}) // the members of that mode were there first
		return
	}
	if refused {
		// Members of another mode have come while this instance was away. Readers keep the
		// last view, and learn why there is no other.
		why := &ModeError{ModeDirect, foreign}
		before.inc.explain(why)
		inc.end(why)
		return
	}
	if tooMany {
		// The instance that came last is being refused, or somebody has put an absurd
		// count. No instance's index shifts for that.
		s.report(levelOf(zap.ErrorLevel, speaks), "the cluster's total is too large; keeping the last state", zap.Error(errTotal(total)))
		if first {
			s.fail(errTotal(total))
		}
		return
	}
	s.logMembers(now)
	if first || before.inc != inc || !now.state.sameTo(before.state) {
		s.wake()
	}
}

// compute returns the state of the index. The caller holds inc.mu.
func (s *stay) compute(inc *incarnation, generation int64) State {
	state := State{Index: -1, Workers: s.c.cfg.Workers, Total: int(inc.index.total), Generation: generation}
	if !s.c.cfg.Registry.Capabilities().Agreed {
		state.Generation = 0
	}
	if a := inc.assigned; a != nil {
		state.Index, state.Workers, state.Total = a.Index, a.Workers, a.Total
	} else if base, workers := inc.index.place(); base >= 0 && !s.c.cfg.Passive {
		state.Index, state.Workers = base, workers
	}
	return state
}

// logMembers logs the places at Debug: the first of many, in one line.
func (s *stay) logMembers(v *view) {
	if !s.log.Core().Enabled(zapcore.DebugLevel) {
		return
	}
	var places []string
	all, _ := s.c.placesOf(v)
	for _, p := range all {
		places = append(places, fmt.Sprintf("%s [%d]", p.ID, p.Index))
	}
	s.log.Debug("re-balancing", zap.Int64("generation", v.state.Generation), zap.Int("total", v.state.Total),
		zap.String("members", some(places)))
}
