package libcluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// incarnation is one stay of an instance in its registry: its ID together with
// its session. Once over it is over for good; rejoining makes another one.
type incarnation struct {
	stay    *stay
	session Session
	// ctx ends the two goroutines that work for the incarnation, ping and
	// balancer.
	ctx    context.Context
	cancel context.CancelFunc

	*fence
	// withdrawn is set when the session has been left before the stay. Used by ping only.
	withdrawn bool
	// confirmed is set by the first renewal that succeeded. Used by ping only.
	confirmed bool

	// published is the record that the registry has. Guarded by
	// stay.publishing, as is every Update.
	published Member
	// unpublished is that what is published is to be compared.
	unpublished signal
	// answeredBeat is set when a heartbeat has succeeded since: what the registry tells of
	// the own record is to be compared, too. Before, its answer to the latest update may
	// be under way.
	answeredBeat atomic.Bool

	mu       sync.Mutex // guards what follows; taken by the balancer and by Members
	index    *index     // the members of the last state
	latest   *index     // all members; another one while their total is too large
	assigned *Assignment

	planning // in a mode with a plan
}

// trusted is the window of a record that was granted ttl.
func (c *Config) trusted(ttl time.Duration) time.Duration {
	if c.Mode == ModeExclusive {
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

func newIncarnation(s *stay, session Session, sent moment, ttl time.Duration, published Member) *incarnation {
	inc := &incarnation{stay: s, session: session, published: published, index: newIndex(s.c.cfg.ID)}
	inc.fence = newFence(s.c.clock, s.c.cfg.trust, sent, ttl)
	inc.latest = inc.index
	inc.unpublished = newSignal()
	inc.drain = newDrain(inc.mayBeUnpublished, func(p prepare) { s.stuck(inc, p) })
	inc.ctx, inc.cancel = context.WithCancel(s.ctx)
	return inc
}

// over returns why the incarnation may not act, or nil if it may.
func (inc *incarnation) over() error {
	if inc.stay.left.Load() {
		return ErrLeft
	}
	return inc.fenced()
}

// end fences the incarnation for good, the first reason counts, and ends its
// goroutines.
func (inc *incarnation) end(why error) {
	inc.close(why)
	inc.cancel()
	inc.stay.wake()
}

// told reports whether the registry knows this many workers of us, as far as it
// has told us anything. What was published can be undone: by a store that is
// restored, or by an older update that is carried out late.
func (inc *incarnation) told(workers int) bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	if inc.assigned != nil {
		return inc.assigned.Workers == workers
	}
	if inc.stay.c.cfg.Mode != ModeDirect {
		own := inc.own
		return own == nil || own.Workers == workers
	}
	base, known := inc.latest.place()
	return base < 0 || known == workers
}
