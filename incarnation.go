package libcluster

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// incarnation is an instance's ID together with one session of its registry. Once over it is
// over for good; rejoining makes another one.
type incarnation struct {
	*membership
	in      Membership // the registry's
	session Session
	// withdrawn is set when the session has been left before the membership. Used by ping only.
	withdrawn bool
	// ctx ends the goroutines that work for the incarnation.
	ctx    context.Context
	cancel context.CancelFunc

	*fence
	record *published
	roster *roster
	drain  *drain // in a mode with a plan
}

// trusted is the window of a record that was granted ttl.
func (c *Config) trusted(ttl time.Duration) time.Duration {
	if c.Mode.excludes() {
		ttl = min(ttl, c.TTL) // the others reckon with what was asked for
	}
	return window(ttl)
}

// trust is for how long an instance acts without a renewal: for ever, if an outage is to
// be sat out.
func (c *Config) trust(ttl time.Duration) time.Duration {
	if c.Outage == KeepOnOutage {
		return 0
	}
	return c.trusted(ttl)
}

func newIncarnation(m *membership, in Membership, session Session, sent moment, ttl time.Duration, record Member) *incarnation {
	inc := &incarnation{membership: m, in: in, session: session, record: newPublished(record), roster: newRoster(m.cfg)}
	inc.fence = newFence(m.clock, m.cfg.trust, sent, ttl)
	inc.drain = newDrain(inc.isSlow, inc.stuck)
	inc.ctx, inc.cancel = context.WithCancel(m.ctx)
	return inc
}

// over returns why the incarnation may not act, or nil if it may.
func (inc *incarnation) over() error {
	if inc.left.Load() {
		return ErrLeft
	}
	return inc.fenced()
}

// end fences the incarnation for good, the first reason counts, and ends its
// goroutines.
func (inc *incarnation) end(why error) {
	inc.close(why)
	inc.cancel()
	inc.wake()
}

// planner returns the session as one that can plan, which attempt has seen to.
func (inc *incarnation) planner() Planner { return inc.session.(Planner) }

// id is what surveys know the incarnation by; nothing, if it is passive.
func (inc *incarnation) id() string {
	if inc.cfg.Passive {
		return ""
	}
	return inc.planner().Incarnation()
}

// isSlow is called when the application takes long to stop. In mode cooperative what it has
// stopped by then is acknowledged, and otherwise it is said that the instance lives.
func (inc *incarnation) isSlow() {
	if inc.cfg.Mode == ModeCooperative {
		inc.wake()
	} else {
		inc.record.compare()
	}
}

// stuckFlush is how long OnStuck waits for the line that says why it is called.
const stuckFlush = 100 * time.Millisecond

// stuck lets the record go, since the application does not stop for a plan, so
// that the plan does not wait for ever.
func (inc *incarnation) stuck(p prepare) {
	if inc.ctx.Err() != nil {
		return
	}
	inc.end(ErrStuck)
	inc.log.Error("the application has not stopped in time; letting the record go",
		zap.Duration("after", inc.cfg.DrainTimeout), zap.Int64("generation", p.generation))
	if inc.cfg.OnStuck != nil {
		inc.flushLog(context.Background(), stuckFlush) // it may end the process
		inc.cfg.OnStuck()
	}
}
