package peers

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

// word is what a peer says of itself to each of the others, anew with each change.
type word struct {
	// Process is another one each time a server is started.
	Process string `json:"process"`
	// Voters are the addresses in its list, sorted, its own included.
	Voters []string `json:"voters"`
	// Stage is how far its server has come. A peer that is about to write its first data is forming.
	Stage etcdserver.Stage `json:"stage"`
	// Lots are its own, or those of all by which it makes a cluster, until its server serves.
	Lots lots `json:"lots"`
	// Cluster is the ID of the cluster that its data is of, once its server has opened it.
	Cluster string `json:"cluster"`
	// Primary is that the process has an instance with index 0.
	Primary bool `json:"primary"`
	// Leaving is that its server is about to end.
	Leaving bool `json:"leaving,omitempty"`
	// Leases are those that its instances renew, also such as it is about to ask for, and some
	// that have ended.
	Leases []int64 `json:"leases"`
}

// board has what this peer says, and what it has heard of the others.
type board struct {
	mu      sync.Mutex // guards what follows
	own     word
	granted map[int64]time.Time      // leases, and when they were asked for
	heard   map[string]word          // by address; of the peers to which there is a connection
	changed chan struct{}            // closed with the next change
	calls   map[string]chan struct{} // by address; has an element when the peer has connected
}

func newBoard(own word) *board {
	return &board{own: own, granted: map[int64]time.Time{}, heard: map[string]word{}, calls: map[string]chan struct{}{}, changed: make(chan struct{})}
}

// say changes what this peer says.
func (b *board) say(change func(*word)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.own)
	b.ring()
}

// says returns what this peer says, and a channel that is closed when that may have changed.
func (b *board) says() (word, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.own, b.changed
}

// hear notes what another peer says; nil: there is no connection to it any more.
func (b *board) hear(address string, w *word) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w == nil {
		delete(b.heard, address)
	} else {
		b.heard[address] = *w
	}
	b.ring()
}

// others returns what the others say, and a channel that is closed with the next change.
func (b *board) others() (map[string]word, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.heard), b.changed
}

// callsOf returns a channel that has an element when a peer has connected: then it can be
// reached, and shall be heard before it has an instance.
func (b *board) callsOf(address string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls[address] = make(chan struct{}, 1)
	return b.calls[address]
}

// called notes that a peer has connected.
func (b *board) called(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.calls[address] <- struct{}{}:
	default: // it is noted already, or nobody follows the peer
	}
}

// lease notes a lease that is about to be asked for, or a lease that has ended.
func (b *board) lease(id int64, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ended {
		delete(b.granted, id)
	} else {
		b.granted[id] = time.Now()
	}
	b.tellLeases()
}

// keep forgets all leases but those that live, and those that are perhaps not granted yet.
func (b *board) keep(lives func(id int64) bool, since time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.granted)
	maps.DeleteFunc(b.granted, func(id int64, asked time.Time) bool { return time.Since(asked) > since && !lives(id) })
	if len(b.granted) != before {
		b.tellLeases()
	}
}

// tellLeases is called with mu locked. What was said before is not changed.
func (b *board) tellLeases() {
	b.own.Leases = slices.Sorted(maps.Keys(b.granted))
	b.ring()
}

func (b *board) ring() {
	close(b.changed)
	b.changed = make(chan struct{})
}
