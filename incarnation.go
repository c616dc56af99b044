package libcluster

import (
	"context"
	"sync"
	"time"
)

// incarnation is an instance's ID together with one session of its registry. Once over it is
// over for good; rejoining makes another one.
type incarnation struct {
	*membership
	session Session
	// withdrawn is set when the session has been left before the membership. Used by ping only.
	withdrawn bool
	// ctx ends the goroutines that work for the incarnation.
	ctx    context.Context
	cancel context.CancelFunc

	*fence
	record *publisher
	roster *roster
	// In a mode with a plan.
	drain       *drain
	coordinator *coordinator
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

func newIncarnation(m *membership, session Session, sent moment, ttl time.Duration, published Member) *incarnation {
	inc := &incarnation{membership: m, session: session, roster: newRoster(m.c.cfg)}
	inc.fence = newFence(m.c.clock, m.c.cfg.trust, sent, ttl)
	inc.record = newPublisher(inc, published)
	inc.drain = newDrain(inc.isSlow, inc.stuck)
	inc.coordinator = &coordinator{inc: inc}
	inc.ctx, inc.cancel = context.WithCancel(m.ctx)
	return inc
}

// live has everything done that keeps the incarnation alive, until it is over. It returns
// whether a renewal has ever succeeded, and why it is over.
func (inc *incarnation) live() (confirmed bool, why error) {
	var running sync.WaitGroup
	running.Go(balancer{inc}.balance)
	running.Go(func() { inc.errand(inc.drain.unsaid, inc.acknowledge) })
	running.Go(func() { inc.errand(inc.record.due, inc.record.catchUp) })
	inc.record.compare()
	confirmed = inc.heartbeats()
	running.Wait()
	inc.coordinator.running.Wait()
	return confirmed, inc.fenced()
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
	if inc.c.cfg.Passive {
		return ""
	}
	return inc.planner().Incarnation()
}

// errand tells the registry something whenever it is asked to, and again until it has
// succeeded, with a backoff of its own: a heartbeat may be minutes away. Neither errand waits
// for the other, and no heartbeat waits for them.
func (inc *incarnation) errand(asked signal, do func() bool) {
	again := inc.c.newRetry()
	var due <-chan time.Time // nil: nothing is to be tried again
	for {
		select {
		case <-inc.ctx.Done():
			return
		case <-asked:
		case <-due:
		}
		if do() {
			again.reset()
			due = nil
		} else {
			due = time.After(again.next())
		}
	}
}
