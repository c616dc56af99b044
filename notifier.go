package libcluster

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// notifier calls the application back, and starts and stops what Run was given. It is one
// goroutine, so that nothing of that overlaps, and lives as long as its
// membership.
type notifier struct {
	of    *membership
	run   *runner       // nil unless it is Run that has joined
	ended chan struct{} // closed when the goroutine ends

	// The goroutine's.
	told    told
	heard   bool // OnRebalance has been told anything
	primary bool // the application has been told that it is
	behind  bool // OnRebalance has not been told of what was told last, and will be told of something later
}

func newNotifier(m *membership, run *runner) *notifier {
	return &notifier{of: m, run: run, ended: make(chan struct{})}
}

// notify is the goroutine. It ends when it has reported the leaving and nothing runs any more.
func (n *notifier) notify() {
	defer close(n.ended)
	m := n.of
	if !m.calling.take(&m.life, n.ended) {
		return // and nothing has been told
	}
	// The deadline is watched here and not by ping, which may be waiting for
	// an answer.
	deadline, watched := time.NewTimer(time.Hour), (*incarnation)(nil)
	defer deadline.Stop()

	n.told.state = State{Index: -1}
	left, slow := (<-chan struct{})(m.leaving), (<-chan time.Time)(nil)
	for leaving, reported := false, false; !leaving || len(n.run.running()) > 0; reported = leaving {
		select {
		case <-n.of.due:
		case <-deadline.C:
			watched = nil
		case <-left:
			leaving, left, slow = true, nil, time.After(slowCallback)
		case <-slow: // for all else stopOver waits, and says so
			m.log.Warn(notReturned, zap.Duration("since", slowCallback), zap.String("partitions", n.run.running().String()))
		}
		v, state := n.newest()
		switch {
		case v.inc != nil && v.inc.membership == m && m.ctx.Err() == nil:
			if !reported {
				n.look(v, state, leaving)
			}
			n.resign(n.told.state)
			n.acknowledge(v)
			n.run.resume(v, n.told.state)
			if !n.told.state.Active() {
				n.rest()
			}
			// It comes too early if the deadline has moved, which costs a look for each deadline
			// and not for each change.
			if n.told.state.Active() && watched != v.inc {
				watched = v.inc
				if left, ends := v.inc.remaining(); ends {
					deadline.Reset(max(left, 0))
				}
			}
		case leaving && n.told.state.Active():
			// The last callback has outlived Leave. The view may be the next membership's.
			n.tell(v, n.told.state.inactive())
			n.told.state = n.told.state.inactive()
		}
	}
	n.resign(n.told.state)
	n.rest()
}

// newest returns the newest view and its state, with nothing running under another one.
func (n *notifier) newest() (*view, State) {
	for {
		v := n.of.view.Load()
		state := v.now()
		if !n.run.stopOver(v, state) { // which may take long
			return v, state
		}
	}
}

// told is what the application has been told.
type told struct {
	any   bool         // anything at all
	state State        // the last
	of    *incarnation // the incarnation that it was of
	taken bool         // whether the ID was another instance's by then
}

// next returns what the application knows when it has been told of a view, and whether it
// has to be called back for that. why is the view's reason for having no assignment.
func (t told) next(inc *incarnation, state State, why error, leaving, passive bool) (after told, call bool) {
	after = told{any: true, state: state, of: inc, taken: errors.Is(why, ErrInstanceTaken)}
	switch {
	case !t.any && (leaving || !state.Active() && !passive):
		return t, false // there is nothing to take back
	case !t.any:
		return after, true
	case t.state.Active() && state.Active() && t.of != inc:
		// Fenced and back while a callback ran. The assignment that was lost is
		// taken back before another one is given, and that may take long.
		after.state = t.state.inactive()
		return after, true
	case t.state.held.loses(state.held) && state.held.loses(t.state.held):
		// What goes is taken back before anything else is granted, and that may take long.
		after.state = state.holding(t.state.held.and(state.held))
		return after, true
	case errors.Is(why, ErrWaiting) && !t.state.Active():
		return t, false // of what others have meanwhile it is told with its own assignment
	}
	return after, !state.sameTo(t.state) || after.taken && !t.taken
}

// look tells the application what there is to tell.
func (n *notifier) look(v *view, state State, leaving bool) {
	var why error
	if !state.Active() {
		why = v.reason()
	}
	after, call := n.told.next(v.inc, state, why, leaving, n.of.cfg.Passive)
	if call && !n.tell(v, after.state) {
		return
	}
	if call && n.heard || v.isSpare() && !leaving {
		n.of.becomeReady()
	}
	n.told = after
	if call && !after.state.sameTo(state) {
		n.of.due.set() // there is more to tell
	}
}

// acknowledge has it said that the application has stopped, if a plan has asked for that.
func (n *notifier) acknowledge(v *view) {
	switch {
	case v.plan == nil || v.plan.prepare == nil:
	case n.behind: // by OnRebalance the application may act on all that it had
	case n.of.cfg.Mode == ModeCooperative:
		remaining := n.told.state.held.partitions().or(n.run.running()).and(v.plan.releases)
		if len(remaining) == 0 || v.inc.drain.isSlowFor(*v.plan.prepare) {
			v.inc.drain.say(*v.plan.prepare, remaining.String())
		}
	case !n.told.state.Active():
		v.inc.drain.say(*v.plan.prepare, "")
	}
}

// tell tells a state, and keeps count of whether the application may act. It returns
// false if that state's assignment has been lost meanwhile.
func (n *notifier) tell(v *view, state State) bool {
	current := true
	if state.Active() {
		n.of.acting.Store(true)
		// What has fenced it meanwhile may have found it at rest.
		current = v.reason() == nil
	}
	if current {
		n.call(v, state)
	} else {
		n.of.due.set()
	}
	if !state.Active() || !current && !n.told.state.Active() {
		n.rest()
	}
	return current
}

// rest notes that the application may act no more, if nothing runs.
func (n *notifier) rest() {
	if n.of.acting.Load() && len(n.run.running()) == 0 {
		n.of.acting.Store(false)
		n.of.rested.set()
	}
}

// resign tells that the application is the primary no more, once the primary's function has
// returned, and before partition 0 is released.
func (n *notifier) resign(state State) {
	if n.primary && !state.Primary() && !n.run.leading() {
		n.primary = false
		n.of.cfg.OnPrimary(false)
	}
}

// movedFields are what the log says of a change of the state.
func movedFields(mode Mode, was, is State) []zap.Field {
	fields := []zap.Field{
		zap.Int64("generation", is.Generation), zap.Int("total", is.Total), zap.Int("was_total", was.Total),
	}
	if mode == ModeCooperative {
		return append(fields, zap.String("partitions", fmt.Sprint(is.held.partitions())),
			zap.String("was_partitions", fmt.Sprint(was.held.partitions())))
	}
	return append(fields, zap.Int("index", is.Index), zap.Int("was_index", was.Index), zap.Int("workers", is.Workers))
}

// call calls the application back. What one callback has outlived is not told by the next.
func (n *notifier) call(v *view, state State) {
	m, was := n.of, n.told.state
	called := n.primary // another callback, since it was found to be current
	counts := func() bool { return !called || !state.Active() || v.reason() == nil }
	if m.log.Core().Enabled(zapcore.InfoLevel) {
		m.log.Info("re-balanced", movedFields(m.cfg.Mode, was, state)...)
	}
	slow := time.AfterFunc(slowCallback, func() {
		m.log.Warn("a callback has not returned yet; newer states wait for it",
			zap.Duration("since", slowCallback), zap.Int("index", state.Index), zap.Int64("generation", state.Generation))
	})
	defer slow.Stop()
	n.resign(state)
	gone := was.held.without(state.held, state.Total)
	if len(gone) > 0 {
		called = true
		tell := m.cfg.OnRevoked
		if n.told.of.fenced() != nil {
			tell = m.cfg.OnLost
		}
		if tell != nil {
			tell(gone)
		}
	}
	if granted := state.held.without(was.held, state.Total); len(granted) > 0 && m.cfg.OnGranted != nil {
		called = true
		m.cfg.OnGranted(granted)
	}
	// Nothing is taken back that OnRebalance has not told of.
	tells := n.heard || state.Active() || m.cfg.Passive
	if n.behind = !counts(); !n.behind && tells {
		n.heard = true
		m.stats.rebalanced()
		if m.cfg.OnRebalance != nil {
			called = true
			m.cfg.OnRebalance(state)
		}
	}
	if m.cfg.OnPrimary != nil && !n.primary && state.Primary() && counts() {
		n.primary = true
		m.cfg.OnPrimary(true)
	}
}
