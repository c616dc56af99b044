//go:build linux && faults

package faults_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libcluster/libcluster"
)

// belief is when a member thought that it held a place: each millisecond its
// state is read, as an application would before each act.
type belief struct {
	mu     sync.Mutex // guards what follows
	spans  []span
	active bool // the last span goes on
	// closest is the least time that was left before the deadline.
	closest time.Duration
}

// span is a time during which reads returned a place in one generation.
type span struct {
	generation int64
	// from is when the first such read began. The last one began at read, and
	// the next one that returned something else ended at until; the member
	// stopped believing in between, but not later than at the deadline that it
	// claimed, which cuts until short.
	from, read, until time.Duration
	deadline          time.Duration // 0: none
	fenced            bool          // what came after it was no place
}

// look reads the state.
func (m *member) look() {
	begin := boot()
	s := m.State()
	m.note(begin, s, boot())
}

// note takes down what a read returned that began and ended at the given times.
func (b *belief) note(begin time.Duration, s libcluster.State, end time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.active {
		last := &b.spans[len(b.spans)-1]
		if s.Active() && s.Generation == last.generation {
			last.read = max(last.read, begin)
		} else {
			last.until = end
			if last.deadline > 0 {
				last.until = max(min(end, last.deadline), last.read)
			}
			last.fenced, b.active = !s.Active(), false
		}
	}
	if !s.Active() {
		return
	}
	if !b.active {
		b.spans = append(b.spans, span{generation: s.Generation, from: begin, read: begin})
		b.active = true
	}
	if !s.Deadline.IsZero() {
		left := time.Until(s.Deadline)
		b.spans[len(b.spans)-1].deadline = end + left
		if b.closest == 0 || left < b.closest {
			b.closest = left
		}
	}
}

// forget starts anew, for the next fault.
func (b *belief) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spans, b.active, b.closest = nil, false, 0
}

// fencedAfter returns the first time after at at which the member lost its place,
// or false if it did not.
func (b *belief) fencedAfter(at time.Duration) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.spans {
		if s.fenced && s.until > at {
			return s.until, true
		}
	}
	return 0, false
}

// activeSince returns since when the member has held a place, in whatever
// generation, or false if it holds none.
func (b *belief) activeSince() (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.active {
		return 0, false
	}
	since := b.spans[len(b.spans)-1].from
	for _, s := range slices.Backward(b.spans[:len(b.spans)-1]) {
		if s.fenced {
			break
		}
		since = s.from
	}
	return since, true
}

// awaitActive returns since when the member has held a place, as soon as it does.
func (m *member) awaitActive(bound time.Duration) (since time.Duration) {
	m.t.Helper()
	await(m.t, bound, m.ID()+" to be active", func() (active bool) {
		since, active = m.activeSince()
		return active
	})
	return since
}

// margin returns how long before its record was deleted, at a time, the member
// stopped believing that it held the place that went with it. Not positive: it
// was late. False: it held none. A place in a generation from successor on is one
// that it got afterwards.
func (b *belief) margin(deleted time.Duration, successor int64) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	margin, held := time.Duration(0), false
	for i, s := range b.spans {
		if s.generation >= successor {
			break
		}
		until := s.until
		if i == len(b.spans)-1 && b.active {
			until = boot() // it still does
		}
		margin, held = deleted-until, true
	}
	return margin, held
}

// watchBeliefs reads the members' states until the test ends, or until the
// returned function is called.
func watchBeliefs(t *testing.T, members ...*member) (stop func()) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			for _, m := range members {
				m.look()
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		close(done)
		<-ended
	})
	t.Cleanup(stop)
	return stop
}
