package libcluster

import "sync"

// relay hands the right to call the application back from one membership to the next. A
// callback that hangs may outlive its membership, since Leave gives up on it; the next membership
// must not call back at the same time. The zero value is useful.
type relay struct {
	mu     sync.Mutex      // guards what follows
	latest <-chan struct{} // closed when the latest that may have called back does so no more; nil: there is none
}

// take waits until no earlier membership calls back any more. It reports false if this one has
// been left before. The next one waits until ended is closed.
func (r *relay) take(of *life, ended <-chan struct{}) bool {
	r.mu.Lock()
	before := r.latest
	r.mu.Unlock()
	if before != nil {
		select {
		case <-before:
		case <-of.leaving:
			return false
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if of.left.Load() {
		return false
	}
	r.latest = ended
	return true
}
