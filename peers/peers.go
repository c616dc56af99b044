package peers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

var (
	errClosed   = errors.New("peers: closed")
	errNotReady = errors.New("the server has not started yet")
)

// tellAfter is how long an attempt to join waits for the server before it says for what. The
// cluster tries again.
const tellAfter = 5 * time.Second

// Peers is a registry that the instances keep among themselves. Its methods may be called by
// any goroutine at any time.
type Peers struct {
	cfg     Config
	self    Peer
	voters  []string    // addresses of all peers, sorted
	secured *tls.Config // for connections to others; nil: without TLS

	mu      sync.Mutex // guards what follows
	run     *run       // the last; nil before the first
	closed  bool
	primary map[*membership]bool // clusters whose index 0 is here
	logged  map[string]bool      // since a server was ready
}

// Load returns the registry of a file; see [ReadConfig]. It starts nothing.
func Load(file string) (*Peers, error) {
	c, err := ReadConfig(file)
	if err != nil {
		return nil, err
	}
	return New(c)
}

// New returns the registry of a configuration. It starts nothing: the first cluster that joins
// starts this instance's server, which runs until Close. An error names the field that is
// wrong, and what to do.
func New(c Config) (*Peers, error) {
	c, self, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	p := &Peers{cfg: c, self: self, voters: c.addresses(self), primary: map[*membership]bool{}, logged: map[string]bool{}}
	if _, err := c.TLS.server(); err != nil {
		return nil, fmt.Errorf("peers: %s: %w", c.at("tls", "TLS"), err)
	}
	if p.secured, err = c.TLS.client(); err != nil {
		return nil, fmt.Errorf("peers: %s: %w", c.at("tls", "TLS"), err)
	}
	return p, nil
}

// Self returns this instance. Its Address is empty if it is a client only.
func (p *Peers) Self() Peer { return p.self.clone() }

// all returns the peers, and this instance last: a client may have the ID of a peer.
func (p *Peers) all() []Peer { return append(slices.Clone(p.cfg.Peers), p.self) }

// Peer returns a peer of the list by its ID; also this instance.
func (p *Peers) Peer(id string) (Peer, bool) {
	for _, peer := range p.all() {
		if peer.ID == id {
			return peer.clone(), true
		}
	}
	return Peer{}, false
}

func (p Peer) clone() Peer {
	p.Metadata = maps.Clone(p.Metadata)
	return p
}

// String names the peers.
func (p *Peers) String() string {
	var ids []string
	if p.self.Address != "" {
		ids = append(ids, p.self.ID)
	}
	for _, peer := range p.cfg.Peers {
		ids = append(ids, peer.ID)
	}
	slices.Sort(ids)
	return "peers " + strings.Join(ids, ", ")
}

// Close stops this instance's server, and returns when nothing of it is left. Leave the
// clusters before. Closing twice is closing once.
//
// An error says that etcd does not stop, as after a failure of its disk. Its goroutines and
// the lock of the data folder then stay until the process ends.
func (p *Peers) Close() error {
	p.mu.Lock()
	p.closed = true
	r := p.run
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	r.cancel()
	<-r.ended
	return r.closing
}

// running returns the run, and starts one if there is none or the last has ended.
func (p *Peers) running(log *zap.Logger) (*run, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, errClosed
	case p.run != nil && p.run.over() && p.run.closing != nil:
		return nil, fmt.Errorf("peers: %s: restart this process: %w", p.self.ID, p.run.closing)
	case p.run == nil || p.run.over():
		p.run = p.start(log)
		primary := len(p.primary) > 0
		p.run.board.say(func(w *word) { w.Primary = primary })
	}
	return p.run, nil
}

// news reports whether a line was not logged yet since a server was ready. A server that
// cannot start is tried again every second.
func (p *Peers) news(line string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.logged[line]
	p.logged[line] = true
	return !known
}

func (p *Peers) forgetNews() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.logged)
}

// over reports whether the run has ended.
func (r *run) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// awaitServer returns a run whose server is ready. The server goes on starting when ctx ends.
func (p *Peers) awaitServer(ctx context.Context, log *zap.Logger) (*run, error) {
	r, err := p.running(log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, tellAfter, errNotReady)
	defer cancel()
	select {
	case <-r.ended:
	case <-r.ready:
		if !r.over() {
			return r, nil
		}
		<-r.ended
	case <-ctx.Done():
		err := context.Cause(ctx)
		if why := r.why.Load(); why != nil {
			return nil, fmt.Errorf("%w: %s", err, *why)
		}
		return nil, err
	}
	if r.err == nil {
		return nil, errClosed
	}
	return nil, r.err
}
