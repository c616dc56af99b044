package libcluster

import (
	"sync"

	"github.com/libcluster/libcluster/kv"
)

// storeWord is what a session has said of plans.
type storeWord struct {
	mu      sync.Mutex // guards what follows
	claimed bool       // it may be the coordinator
	note    kv.Record  // what it has stopped; of version 0 if it has said nothing
}

// claims notes that the session asks to be the coordinator, whatever becomes of the answer. It
// reports whether it has asked before.
func (w *storeWord) claims() (before bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, w.claimed = w.claimed, true
	return before
}

// hasClaimed reports whether the session may be the coordinator.
func (w *storeWord) hasClaimed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.claimed
}

// lastNote returns the session's note as far as it knows.
func (w *storeWord) lastNote() kv.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.note
}

func (w *storeWord) setNote(note kv.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note = note
}
