package gossip

import (
	"context"
	"io"
	"net"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/hostport"
)

const (
	// watched is how many others a node watches, so that nobody dies unseen when two die.
	watched = 3
	// enoughRefusals is how many dials in a row must be refused.
	enoughRefusals = 2
	// refusedAgain is between the first two dials after a connection has broken, then twice as
	// long each time, up to watchAgain. A connection that has held for watchAgain was a good one.
	refusedAgain = 5 * time.Millisecond
	watchAgain   = time.Second
)

// watch holds a connection to each of the nodes that follow this one in the order of their
// names. When the process of one has ended, its kernel closes the connection and refuses
// another one, and everybody is told. Nothing is said on the connection. So memberlist, which
// waits for a message, closes it after streamTimeout, and the next one is made.
func (n *node) watch() {
	watching := map[string]context.CancelFunc{}
	for n.ctx.Err() == nil {
		n.mu.Lock()
		next := following(n.records.up(), n.name)
		for _, name := range next {
			if watching[name] == nil {
				ctx, cancel := context.WithCancel(n.ctx)
				watching[name] = cancel
				address := n.records.peers[name].address
				n.started.Go(func() { n.watchOne(ctx, name, address) })
			}
		}
		changed := n.changed
		n.mu.Unlock()
		for name, cancel := range watching {
			if !slices.Contains(next, name) {
				cancel()
				delete(watching, name)
			}
		}
		select {
		case <-changed:
		case <-n.ctx.Done():
		}
	}
	for _, cancel := range watching {
		cancel()
	}
}

// following returns those that follow a name in a sorted ring.
func following(sorted []string, name string) []string {
	at, _ := slices.BinarySearch(sorted, name)
	ring := append(slices.Clone(sorted[at:]), sorted[:at]...)
	ring = slices.DeleteFunc(ring, func(s string) bool { return s == name })
	return ring[:min(len(ring), watched)]
}

// watchOne watches one node. A port that was never open may belong to a firewall that refuses,
// and so may one that is still refused when the node has contradicted. A connection may succeed
// once more while a process ends, so it is only the next refusals that tell.
func (n *node) watchOne(ctx context.Context, name, address string) {
	open, refusals, pause := false, 0, refusedAgain
	for ctx.Err() == nil {
		began := time.Now()
		switch conn, err := n.transport.dial(ctx, address, dialTimeout); {
		case err == nil:
			open, refusals = true, 0
			hold(ctx, conn)
			if time.Since(began) >= watchAgain {
				pause = refusedAgain
				continue
			}
		case open && hostport.IsRefused(err):
			if refusals++; refusals == enoughRefusals {
				n.accuse(name)
				open = false
			}
		}
		sleep(ctx, pause)
		pause = min(2*pause, watchAgain)
	}
}

// hold holds a connection until it breaks.
func hold(ctx context.Context, conn net.Conn) {
	unblock := context.AfterFunc(ctx, func() { _ = conn.Close() })
	_, _ = io.Copy(io.Discard, conn)
	unblock()
	_ = conn.Close()
}

// accuse tells everybody that a node's process has ended. If that is wrong, the node says so.
func (n *node) accuse(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e, there := n.records.entries[name]
	if !there || e.Gone {
		return
	}
	gone := e.entry
	gone.Gone, gone.Record = true, nil
	n.records.put(gone, time.Now())
	n.wake()
	n.log.Debug("an instance's process has ended", zap.String("id", e.ID))
	n.tellLater(gone)
}
