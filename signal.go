package libcluster

import (
	"context"
	"sync"
)

// signal is an event for which one goroutine waits. Any goroutine may set it, and never
// blocks: a signal that has not been heeded yet stands for all.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// baton is had by one goroutine at a time. Unlike a mutex it is waited for only as long as
// a context lasts.
type baton chan struct{}

// take waits for the baton, or until ctx ends.
func (b baton) take(ctx context.Context) error {
	select {
	case b <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b baton) give() { <-b }

// broadcast is an event for which any number of goroutines wait. The zero value is useful.
type broadcast struct {
	mu   sync.Mutex    // guards what follows
	sent chan struct{} // closed at the next event; nil: nobody waits
}

// next returns a channel that is closed when the event happens the next time.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sent == nil {
		b.sent = make(chan struct{})
	}
	return b.sent
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sent != nil {
		close(b.sent)
		b.sent = nil
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
