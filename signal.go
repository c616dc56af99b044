package libcluster

import "context"

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
