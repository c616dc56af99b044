package libcluster

import (
	"sync/atomic"
	"time"
)

// fence says until when an incarnation may act. Every read of the state looks at it, any
// goroutine may, and nothing waits here. Once closed it stays closed.
type fence struct {
	clock func() moment
	// trust is for how long a record is trusted that lives for ttl after its renewal was
	// sent; 0: for ever.
	trust func(ttl time.Duration) time.Duration

	lives atomic.Int64 // how long the record lives after a renewal, 0 for ever
	line  atomic.Pointer[deadline]
}

// deadline is the moment up to which an incarnation may act: window after sent, the
// moment before the last renewal that succeeded was sent. It is replaced, never changed.
type deadline struct {
	sent   moment
	window time.Duration // 0: for ever
	closed error         // not nil: over, and this is why
}

// A record that lives for ttl after its renewal was sent is trusted for less,
// windowPercent of it. The rest covers clocks that differ, and in exclusive
// mode it is no part of the proof. It must leave room for the loss of an etcd
// leader, during which nothing is answered for up to 3.5 s.
const windowPercent = 60

func window(ttl time.Duration) time.Duration { return ttl * windowPercent / 100 }

// newFence returns the fence of a record that was granted ttl by a request sent at sent.
func newFence(clock func() moment, trust func(time.Duration) time.Duration, sent moment, ttl time.Duration) *fence {
	f := &fence{clock: clock, trust: trust}
	f.line.Store(f.renewed(sent, ttl))
	return f
}

// renewed notes how long the record lives, and returns the deadline that follows from a
// renewal sent at sent.
func (f *fence) renewed(sent moment, ttl time.Duration) *deadline {
	f.lives.Store(int64(ttl))
	return &deadline{sent: sent, window: f.trust(ttl)}
}

// ttl is how long the record lives after a renewal, 0 for ever.
func (f *fence) ttl() time.Duration { return time.Duration(f.lives.Load()) }

// sent is when the last renewal that succeeded was sent.
func (f *fence) sent() moment { return f.line.Load().sent }

// fenced returns why the incarnation has lost its assignment, or nil if it has not.
// A reader that finds the deadline passed also closes the fence: from then on nobody can
// extend it, so what one reader was told no later answer takes back.
func (f *fence) fenced() error {
	_, err := f.look()
	return err
}

// look returns the deadline, or why the fence is closed.
func (f *fence) look() (*deadline, error) {
	for {
		d := f.line.Load()
		if d.closed != nil {
			return nil, d.closed
		}
		if d.window == 0 || f.clock().since(d.sent) < d.window {
			return d, nil
		}
		f.line.CompareAndSwap(d, &deadline{closed: ErrDeadlinePassed})
	}
}

// until returns the moment up to which the incarnation may act, zero if there is no end
// to that, or why it may not.
func (f *fence) until() (time.Time, error) {
	d, err := f.look()
	if err != nil || d.window == 0 {
		return time.Time{}, err
	}
	return d.sent.mono.Add(d.window), nil
}

// remaining returns how long the incarnation may act unless it is renewed, and
// false if there is no end to that.
func (f *fence) remaining() (time.Duration, bool) {
	d := f.line.Load()
	if d.closed != nil {
		return 0, true
	}
	return d.window - f.clock().since(d.sent), d.window > 0
}

// extend moves the deadline after a renewal that was sent at sent has succeeded.
// It does nothing to a fence that is closed, or after a renewal that was sent
// later: answers overtake one another.
func (f *fence) extend(sent moment, ttl time.Duration) {
	d := f.line.Load()
	if f.fenced() == nil && sent.since(d.sent) > 0 {
		// Fails if a reader has found the deadline passed since it was loaded.
		f.line.CompareAndSwap(d, f.renewed(sent, ttl))
	}
}

// renewedSince reports whether a renewal has succeeded that was sent after a moment.
func (f *fence) renewedSince(m moment) bool {
	d := f.line.Load()
	return d.closed == nil && d.sent.since(m) > 0
}

// close ends it for good. Of several reasons the first counts.
func (f *fence) close(why error) {
	for {
		d := f.line.Load()
		if d.closed != nil || f.line.CompareAndSwap(d, &deadline{closed: why}) {
			return
		}
	}
}

// explain closes it for a reason that counts more than an earlier one.
func (f *fence) explain(why error) { f.line.Store(&deadline{closed: why}) }

// patience returns how long an errand may take: a third of the window. Not past the
// deadline.
func (f *fence) patience() time.Duration {
	if f.ttl() == 0 {
		return errandTimeout
	}
	return f.beforeDeadline(window(f.ttl()) / 3)
}

func (f *fence) beforeDeadline(d time.Duration) time.Duration {
	if left, ends := f.remaining(); ends {
		return max(0, min(d, left))
	}
	return d
}
