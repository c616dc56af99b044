package libcluster

import (
	"sync"
	"sync/atomic"

	"github.com/libcluster/libcluster/internal/quote"
)

// life is how far a membership has come.
type life struct {
	ready   chan struct{} // closed by the notifier after the first callback
	failed  chan struct{} // closed when joining has been refused for good
	leaving chan struct{} // closed by the first leave
	left    atomic.Bool   // set just before leaving is closed
	lingers atomic.Bool   // leaving takes long, and the record says that the instance drains

	mu      sync.Mutex      // guards what follows
	hurry   func(why error) // has an exit wait for nothing any more; nil: there is none
	failErr error           // why failed is closed
	joined  bool            // ready was closed before failed was
}

// becomeReady notes that the first callback has returned, or that there is nothing to tell yet.
func (l *life) becomeReady() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !isClosed(l.ready) {
		l.joined = l.failErr == nil
		close(l.ready)
	}
}

// fail notes a failure. The first one counts; Join returns it, unless it has joined before.
func (l *life) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failErr == nil {
		l.failErr = quote.Error(err)
		close(l.failed)
	}
}

func (l *life) mayHurry(hurry func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hurry = hurry
}

// hurries has an exit wait for nothing any more, if there is one.
func (l *life) hurries(why error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hurry != nil {
		l.hurry(why)
	}
	return l.hurry != nil
}

// failure returns why the membership has failed, if it has, and whether it had joined before.
func (l *life) failure() (why error, joined bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failErr, l.joined
}
