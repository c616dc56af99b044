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

	deadline atomic.Pointer[deadline]
	// lives is how long the record lives after a renewal, 0 for ever.
	lives atomic.Int64
	// confirmed is set by the first renewal that succeeded. Used by ping only.
	confirmed bool

	// published is the record that the registry has. Guarded by
	// stay.publishing, as is every Update.
	published Member
	// unpublished holds one: what is published is to be compared.
	unpublished chan struct{}
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

// deadline is the moment up to which an incarnation may act: window after sent,
// the moment before the last renewal that succeeded was sent. It is replaced,
// never changed.
type deadline struct {
	sent   moment
	window time.Duration // 0: for ever
	fenced error         // not nil: over, and this is why
}

// A record that lives for ttl after its renewal was sent is trusted for less,
// windowPercent of it. The rest covers clocks that differ, and in exclusive
// mode it is no part of the proof. It must leave room for the loss of an etcd
// leader, during which nothing is answered for up to 3.5 s.
const windowPercent = 60

func window(ttl time.Duration) time.Duration { return ttl * windowPercent / 100 }

// trusted is the window of a record that was granted ttl.
func (c *Config) trusted(ttl time.Duration) time.Duration {
	if c.Mode == ModeExclusive {
		ttl = min(ttl, c.TTL) // the others reckon with what was asked for
	}
	return window(ttl)
}

func newIncarnation(s *stay, session Session, sent moment, ttl time.Duration, published Member) *incarnation {
	inc := &incarnation{stay: s, session: session, published: published, index: newIndex(s.c.cfg.ID)}
	inc.latest = inc.index
	inc.heed, inc.unpublished = make(chan struct{}, 1), make(chan struct{}, 1)
	inc.ctx, inc.cancel = context.WithCancel(s.ctx)
	inc.deadline.Store(inc.renewed(sent, ttl))
	return inc
}

// renewed notes how long the record lives, and returns the deadline that follows
// from a renewal sent at sent: none, if an outage is to be sat out.
func (inc *incarnation) renewed(sent moment, ttl time.Duration) *deadline {
	inc.lives.Store(int64(ttl))
	h := &deadline{sent: sent}
	if cfg := &inc.stay.c.cfg; cfg.Outage != KeepOnOutage {
		h.window = cfg.trusted(ttl)
	}
	return h
}

// ttl is how long the record lives after a renewal, 0 for ever.
func (inc *incarnation) ttl() time.Duration { return time.Duration(inc.lives.Load()) }

// over returns why the incarnation may not act, or nil if it may.
func (inc *incarnation) over() error {
	if inc.stay.left.Load() {
		return ErrLeft
	}
	return inc.fenced()
}

// fenced returns why the incarnation has lost its place, or nil if it has not.
// Whoever finds the deadline passed also closes it: from then on nobody can
// extend it, so what one reader was told no later answer takes back.
func (inc *incarnation) fenced() error {
	for {
		h := inc.deadline.Load()
		if h.fenced != nil {
			return h.fenced
		}
		if h.window == 0 || inc.stay.c.clock().since(h.sent) < h.window {
			return nil
		}
		inc.deadline.CompareAndSwap(h, &deadline{fenced: ErrDeadlinePassed})
	}
}

// extend moves the deadline after a renewal that was sent at sent has succeeded.
// It does nothing to an incarnation that is over, or after a renewal that was sent
// later: answers overtake one another.
func (inc *incarnation) extend(sent moment, ttl time.Duration) {
	h := inc.deadline.Load()
	if inc.fenced() == nil && sent.since(h.sent) > 0 {
		// Fails if a reader has found the deadline passed since it was loaded.
		inc.deadline.CompareAndSwap(h, inc.renewed(sent, ttl))
	}
}

// renewedSince reports whether a renewal has succeeded that was sent after a moment.
func (inc *incarnation) renewedSince(m moment) bool {
	h := inc.deadline.Load()
	return h.fenced == nil && h.sent.since(m) > 0
}

// end fences the incarnation for good, the first reason counts, and ends its
// goroutines.
func (inc *incarnation) end(why error) {
	for {
		h := inc.deadline.Load()
		if h.fenced != nil || inc.deadline.CompareAndSwap(h, &deadline{fenced: why}) {
			break
		}
	}
	inc.cancel()
	inc.stay.wake()
}

// remaining returns how long the incarnation may act unless it is renewed, and
// false if there is no end to that.
func (inc *incarnation) remaining() (time.Duration, bool) {
	h := inc.deadline.Load()
	if h.fenced != nil {
		return 0, true
	}
	return h.window - inc.stay.c.clock().since(h.sent), h.window > 0
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
