package libcluster

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// slowCallback is when a callback that has not returned is logged.
const slowCallback = 10 * time.Second

// balance is the goroutine that owns an incarnation's index: it waits for
// changes and publishes the state that results. It ends with the incarnation.
func (s *stay) balance(inc *incarnation) {
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
		inc.latest = inc.index.clone() // and readers go on by the last state's
	}
	foreign := inc.latest.apply(change)
	total := inc.latest.total
	if total <= MaxWorkers {
		inc.index = inc.latest
	}
	if change.Assigned != nil {
		inc.assigned = change.Assigned
	}
	now := (&view{state: s.compute(inc, change.Generation), inc: inc}).after(before)
	refused := before.inc != inc && foreign != ModeDirect
	if !refused && total <= MaxWorkers {
		s.c.view.Store(now)
	}
	speaks := false
	if total > MaxWorkers || len(change.foreign) > 0 {
		first, _ := inc.latest.firstThere()
		speaks = first == s.c.cfg.ID && !s.c.cfg.Passive
	}
	inc.mu.Unlock()
	s.reportForeign(change.foreign, speaks)

	if refused && first {
		s.fail(&ModeError{ModeDirect, foreign}) // they were there first
		return
	}
	if refused {
		// They have come while this instance was away.
		why := &ModeError{ModeDirect, foreign}
		inc.end(why)
		s.c.view.Store((&view{inc: inc, state: before.state.inactive(), why: why}).after(before))
		return
	}
	if total > MaxWorkers {
		// Whoever came last is being refused, or a stranger has put an absurd
		// count. Nobody's index shifts for that.
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

// notify is the goroutine that calls the application back. It ends when it has
// reported the leaving.
func (s *stay) notify() {
	defer close(s.notified)
	if !s.awaitTurn() {
		return // and nothing has been told
	}
	// The deadline is watched here and not by ping, which may be waiting for
	// an answer.
	deadline := time.NewTimer(time.Hour)
	defer deadline.Stop()

	n := teller{s: s, silent: true, state: State{Index: -1}}
	for leaving := false; !leaving; {
		select {
		case <-s.changed:
		case <-deadline.C:
		case <-s.leaving:
			leaving = true
		}
		v, state := s.newest()
		switch {
		case v.inc != nil && v.inc.stay == s && s.ctx.Err() == nil:
			n.look(v, state, leaving)
			s.run.resume(v, n.state)
			if left, ends := v.inc.remaining(); ends && n.state.Active() {
				deadline.Reset(max(left, 0))
			}
		case leaving && n.state.Active():
			// The last callback has outlived Leave. The view may be the next stay's.
			n.call(v, n.state.inactive())
		}
	}
}

// awaitTurn waits until an earlier stay's callback has returned, on which its Leave has
// given up. It reports false if this one has been left before.
func (s *stay) awaitTurn() bool {
	select {
	case <-s.before:
	case <-s.leaving:
		return false
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.left.Load() {
		return false
	}
	s.c.calling = s.notified
	return true
}

// newest returns the newest view and its state, with nothing running under another one.
func (s *stay) newest() (*view, State) {
	for {
		v := s.c.view.Load()
		state := v.now()
		if !s.run.isOver(v, state) {
			return v, state
		}
		s.run.stop() // which may take long
	}
}

// teller knows what the application has been told.
type teller struct {
	s      *stay
	silent bool         // nothing yet
	state  State        // the last
	of     *incarnation // the incarnation that it was of
	taken  bool         // whether the ID had been taken then
}

// look tells the application what there is to tell.
func (n *teller) look(v *view, state State, leaving bool) {
	why := v.reason()
	taken := errors.Is(why, ErrInstanceTaken)
	if v.plan != nil && v.plan.prepare != nil {
		defer func() {
			if !n.state.Active() {
				v.inc.stopped(v.plan.prepare)
			}
		}()
	}
	switch {
	case n.silent && (leaving || !state.Active() && !n.s.c.cfg.Passive):
		// No state was told yet: there is nothing to take back.
		return
	case n.silent:
		if !n.call(v, state) {
			return
		}
		close(n.s.ready)
	case n.state.Active() && state.Active() && n.of != v.inc:
		// Fenced and back while a callback ran. The place that was lost is
		// taken back before another one is given, and that may take long.
		state = n.state.inactive()
		n.call(v, state)
		n.s.wake()
	case errors.Is(why, ErrWaiting) && !n.state.Active():
		return // of what others have meanwhile it is told with its own place
	case !state.sameTo(n.state), taken && !n.taken:
		if !n.call(v, state) {
			return
		}
	}
	n.silent, n.state, n.of, n.taken = false, state, v.inc, taken
}

// call tells a state, and keeps count of whether the application may act.
func (n *teller) call(v *view, state State) bool {
	told := true
	if state.Active() {
		n.s.acting.Store(true)
		// Whoever has fenced it meanwhile may have found it at rest.
		told = v.reason() == nil
	}
	if told {
		n.s.call(n.state, state)
	} else {
		n.s.wake()
	}
	if !state.Active() || !told && !n.state.Active() {
		n.s.acting.Store(false)
		select {
		case n.s.rested <- struct{}{}:
		default:
		}
	}
	return told
}

// call calls the application back.
func (s *stay) call(was, state State) {
	if s.log.Core().Enabled(zapcore.InfoLevel) {
		s.log.Info(fmt.Sprintf("cluster %s has re-balanced: new base is %d (was %d), new total is %d (was %d)",
			s.name, state.Index, was.Index, state.Total, was.Total),
			zap.Int64("generation", state.Generation), zap.Int("workers", state.Workers))
	}
	if s.c.cfg.OnRebalance == nil {
		return
	}
	slow := time.AfterFunc(slowCallback, func() {
		s.log.Warn("a callback has not returned yet; newer states wait for it",
			zap.Duration("since", slowCallback), zap.Int("index", state.Index), zap.Int64("generation", state.Generation))
	})
	defer slow.Stop()
	s.c.cfg.OnRebalance(state)
}
