package libcluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// giveUp ends the membership, since no retry helps: Run returns the error, and otherwise
// awaitExit leaves.
func (m *membership) giveUp(why error) {
	if !isClosed(m.failed) {
		m.log.Warn("will leave", zap.Error(why))
		m.fail(why)
	}
}

// leavesByItself reports whether there is a reason to leave of which nobody waits for it.
func (m *membership) leavesByItself() bool {
	cfg := &m.c.cfg
	return m.notifier.run == nil && (cfg.OnExit != nil || cfg.Superseded != nil || cfg.GiveUpAfter > 0)
}

// awaitExit is a goroutine that leaves when the membership has failed after it was joined,
// and tells the application. It ends when the membership is left.
func (m *membership) awaitExit() {
	select {
	case <-m.failed:
	case <-m.leaving:
		return
	}
	f := m.c.cfg.OnExit
	why, joined := m.failure()
	if !joined || f == nil && errors.Is(why, ErrInstanceTaken) {
		return // Join returns it; or the application finds it in Err, as ever
	}
	// However long the application takes to wind down, unless it calls Leave.
	ctx, hurry := context.WithCancelCause(context.Background())
	defer hurry(nil)
	m.mayHurry(hurry)
	if err := m.leave(ctx, 0); err != nil {
		m.log.Warn("could not leave properly", zap.Error(err))
	}
	if f != nil {
		f(why)
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

// supersededBy is why an instance leaves whose successor is there.
func supersededBy(m Member) error {
	return fmt.Errorf("%w: %q has version %.100q", ErrSuperseded, m.ID, m.Version)
}

// WaitActive waits until this instance has an assignment, and returns the state. It may be
// called before Join. If ctx ends before, the error also wraps what [Cluster.Err] returns. In
// a callback it would wait for itself.
func (c *Cluster) WaitActive(ctx context.Context) (State, error) {
	if c.cfg.Passive {
		return c.State(), ErrPassive
	}
	for {
		changed := c.changed.next()
		state := c.State()
		if state.Active() {
			return state, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if err := c.Err(); err != nil {
				return state, fmt.Errorf("libcluster: no assignment yet: %w: %w", context.Cause(ctx), err)
			}
			// It has got one just now: the state is read again.
		}
	}
}
