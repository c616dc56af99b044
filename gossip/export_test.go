package gossip

import (
	"context"
	"net/netip"
	"time"

	"github.com/libcluster/libcluster"
)

// Port is where a node listens, and Listen opens one of the real network.
type Port = port

var Listen = openSockets

// World is what stands in the place of the network, the resolver and patience in tests. Fields
// that are not set are as in reality, but that a session that was closed is not kept for long.
type World struct {
	Listen func(at netip.AddrPort) (Port, error)
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	Now    func() time.Time
	Probe  time.Duration
	Linger time.Duration
}

// In returns a Config in another world.
func (c Config) In(w World) Config {
	in := realWorld
	in.linger = 100 * time.Millisecond
	if w.Listen != nil {
		in.listen = w.Listen
	}
	if w.Lookup != nil {
		in.lookup = w.Lookup
	}
	if w.Now != nil {
		in.now = w.Now
	}
	if w.Probe != 0 {
		in.probe = w.Probe
	}
	if w.Linger != 0 {
		in.linger = w.Linger
	}
	c.in = &in
	return c
}

// Kill ends the node of a session without a word, as the end of its process would.
func Kill(of libcluster.Session) {
	s := of.(*session)
	s.of.drop(s.node)
	s.node.stop()
}

// StopLingering ends the node that a membership without a session keeps for the next Join.
func StopLingering(of libcluster.Membership) {
	m := of.(*membership)
	m.mu.Lock()
	n, lingering := m.node, m.lingering
	m.mu.Unlock()
	if n != nil && lingering != nil && lingering.Stop() && m.unused(n) {
		n.stop()
	}
}

// Accuse has the node of a session say that another's process has ended.
func Accuse(by, of libcluster.Session) { by.(*session).node.accuse(of.(*session).node.name) }

// Watches reports whether the node of a session has a connection to another's port.
func Watches(by libcluster.Session, address string) bool {
	t := by.(*session).node.transport
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		if c.RemoteAddr().String() == address {
			return true
		}
	}
	return false
}
