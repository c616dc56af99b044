package libcluster

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// longestJoin bounds an attempt to join, so that a registry that is overloaded, since
	// many join at once, is not asked anew for what it was about to answer. The first
	// attempt to rejoin has joinTimeout, and each one twice the time of the one before: an
	// answer may have been lost, and meanwhile the instance does nothing.
	joinTimeout = 5 * time.Second
	longestJoin = 4 * joinTimeout

	// lookAgain is how often an instance that is shut out looks whether it can join.
	lookAgain = 10 * time.Second
)

// membership is the time from one Join to the Leave that ends it. It is what all goroutines
// of the engine share, and names none of them.
type membership struct {
	*instance
	name   string // the cluster's, for people
	ctx    context.Context
	cancel context.CancelFunc

	life
	reporter
	due signal // the notifier has something to look at

	// acting is set while the application may have an assignment: from before the
	// callback that gives it until the callback that takes it back has returned. The
	// notifier sets it.
	acting atomic.Bool
	rested signal // acting has been unset

	news     *memberNews // nil: the application wants to know nothing of members
	coverage coverageLog
}

func newMembership(i *instance) *membership {
	name := i.cfg.registration().Cluster()
	m := &membership{
		instance: i,
		name:     name,
		reporter: newReporter(i.logger.With(zap.String("cluster", name))),
		life: life{
			ready:   make(chan struct{}),
			failed:  make(chan struct{}),
			leaving: make(chan struct{}),
		},
		due:    newSignal(),
		rested: newSignal(),
		news:   newMemberNews(&i.cfg),
	}
	m.coverage = coverageLog{instance: i, log: m.log}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// awaitJoined waits until the first callback has returned, or says why it never will.
func (m *membership) awaitJoined(ctx context.Context) error {
	select {
	case <-m.ready:
	case <-m.failed:
	case <-m.leaving:
		return ErrLeft
	case <-ctx.Done():
		if trouble := m.trouble(); trouble != nil {
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), trouble)
		}
		return context.Cause(ctx)
	}
	if why, joined := m.failure(); !joined {
		return why
	}
	return nil
}

// notJoined returns the error of a Join or Run that has never joined.
func (m *membership) notJoined(err error) error {
	return fmt.Errorf("libcluster: join %s: %w", m.name, err)
}

// fail refuses the membership for good.
func (m *membership) fail(err error) {
	m.note(err)
	m.life.fail(err)
}

// refuse fails a Join that is still waiting. Once joined, the instance goes on, since the
// error may pass.
func (m *membership) refuse(err error) {
	if !isClosed(m.ready) {
		m.fail(err)
	}
}

// stopping reports whether nothing new should be started.
func (m *membership) stopping() bool { return m.left.Load() || m.ctx.Err() != nil }

// wake has the notifier look at the state, and what else waits for one. It never blocks.
func (m *membership) wake() {
	m.due.set()
	m.changed.send()
}

func (m *membership) registration() Registration {
	r := m.cfg.registration()
	r.Member = m.own.desired().clone()
	r.Logger, r.chance, r.note, r.Members = m.logger, m.chance, m.note, m.cfg.watchesMembers()
	if m.lingers.Load() {
		r.Member.plans.draining = true
	}
	if known := m.known.Load(); known != nil && m.cfg.Mode != ModeDirect {
		r.Member.plans.seen = known.generation
	}
	return r
}

// giveUp ends the membership, since no retry helps: Run returns the error, and otherwise
// the engine leaves.
func (m *membership) giveUp(why error) {
	if !isClosed(m.failed) {
		m.log.Warn("will leave", zap.Error(why))
		m.fail(why)
	}
}

// giveUpAfter returns a timer that ends the membership unless it is stopped before, as it is
// when the instance has rejoined; nil if it never gives up.
func (m *membership) giveUpAfter(d time.Duration, why error) *time.Timer {
	if d == 0 {
		return nil
	}
	return time.AfterFunc(d, func() { m.giveUp(fmt.Errorf("%w, after %v: %w", ErrGivenUp, d, why)) })
}
