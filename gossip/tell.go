package gossip

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
)

const (
	// tellAgain is when a message is sent again that has no answer, because it or the answer may
	// be lost; then after twice as long each time, up to tellSlowest, since a machine may also be
	// busy. A large message goes through a connection, which loses nothing.
	tellAgain      = 100 * time.Millisecond
	tellLargeAgain = time.Second
	tellSlowest    = 2 * time.Second
	// tellAll is how long a node waits for the answers of all others. A node that has not answered
	// by then is cut off, stopped, or dead, and will compare what it knows when it is back.
	tellAll = time.Second
)

// question is a record that others were told of and have to answer. The node's mu guards it.
type question struct {
	persists bool            // a node that does not vouch is asked again
	vouched  map[string]bool // by the node that has answered
	came     chan struct{}   // has one when an answer has come
}

func (q *question) answered(m message) {
	q.vouched[m.From] = m.Vouches
	select {
	case q.came <- struct{}{}:
	default:
	}
}

// vouchers is how many other instances vouch for this node's record. Their nodes are counted by
// ID: an instance that rejoins has another node, and what its last one has said stays said. The
// caller holds mu.
func (n *node) vouchers(q *question) int {
	ids := map[string]bool{}
	for name, vouches := range q.vouched {
		e, known := n.records.entries[name]
		if vouches && known && !e.Gone && n.records.peers[name].up && e.ID != n.own.ID {
			ids[e.ID] = true
		}
	}
	return len(ids)
}

// enough decides whether a question has been answered, from the answers and the names of the
// nodes that are up and have not answered.
type enough func(q *question, silent []string) bool

// tell tells all nodes that are up of this node's entry, or of one that it says has gone, again
// and again until there are enough answers, or ctx or the node has ended.
func (n *node) tell(ctx context.Context, e entry, hold time.Duration, enough enough) error {
	m := n.message()
	m.Entries, m.Hold = []entry{e}, hold.Milliseconds()
	q := &question{persists: hold > 0, vouched: map[string]bool{}, came: make(chan struct{}, 1)}
	n.mu.Lock()
	n.asks++
	m.Ask = n.asks
	n.asked[m.Ask] = q
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.asked, m.Ask)
	}()
	first := tellAgain
	if len(m.encode()) > largestPacket {
		first = tellLargeAgain
	}
	turns := map[string]turn{} // by node
	again := time.NewTicker(tellAgain / 2)
	defer again.Stop()
	for {
		n.mu.Lock()
		addresses, silent := n.silent(q)
		done, changed := enough(q, silent), n.changed
		n.mu.Unlock()
		if done {
			return nil
		}
		for name, address := range addresses {
			if now := time.Now(); !now.Before(turns[name].due) {
				turns[name] = turns[name].next(now, first)
				n.send(address, m)
			}
		}
		select {
		case <-q.came:
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-n.ctx.Done():
			return errClosed
		}
	}
}

// turn is when a message is due to be sent to a node.
type turn struct {
	due   time.Time
	pause time.Duration // before due
}

func (t turn) next(now time.Time, first time.Duration) turn {
	pause := min(max(first, 2*t.pause), tellSlowest)
	return turn{now.Add(pause), pause}
}

// silent returns the addresses of the nodes that are up and are to be asked, and the names of
// those that have not answered and whose answer is worth waiting for: not of one that leaves, or
// whose process seems to have ended. An instance vouches once it has published its own record, so
// one that does not is asked again if that counts. The caller holds mu.
func (n *node) silent(q *question) (addresses map[string]string, names []string) {
	addresses = map[string]string{}
	for _, name := range n.records.up() {
		vouches, answered := q.vouched[name]
		if name == n.name || answered && (vouches || !q.persists) {
			continue
		}
		addresses[name] = n.records.peers[name].address
		if !answered && !n.records.entries[name].Gone {
			names = append(names, name)
		}
	}
	return addresses, names
}

// everybody waits for all, but not longer than tellAll.
func everybody() enough {
	start := time.Now()
	return func(_ *question, silent []string) bool {
		return len(silent) == 0 || time.Since(start) >= tellAll
	}
}

// tellEverybody tells of an entry, and waits for the answers for a moment.
func (n *node) tellEverybody(ctx context.Context, e entry) {
	_ = n.tell(ctx, e, 0, everybody()) // what is lost is found when two nodes compare
}

// tellLater is tellEverybody in a goroutine. The caller holds mu.
func (n *node) tellLater(e entry) {
	if !n.closed {
		n.started.Go(func() { n.tellEverybody(n.ctx, e) })
	}
}

// confirm has a majority of Expect vouch for this node's entry.
func (n *node) confirm(ctx context.Context, e entry, ttl time.Duration) error {
	vouchers := 0
	err := n.tell(ctx, e, ttl, func(q *question, _ []string) bool {
		vouchers = n.vouchers(q)
		return vouchers >= n.cfg.majority()
	})
	if err != nil {
		return n.tooFew(vouchers, err)
	}
	return nil
}

func (n *node) tooFew(vouchers int, why error) error {
	return fmt.Errorf("gossip.Config.Expect: of %d members %d must be here, and %d are: %w",
		n.cfg.Expect, n.cfg.majority()+1, vouchers+1, why)
}

// countHere warns once if more members are here than Expect says. The caller holds mu.
func (n *node) countHere(members map[string]entry) {
	here := 0
	for _, e := range members {
		if n.records.peers[e.Node].up {
			here++
		}
	}
	if n.cfg.Expect > 0 && here > n.cfg.Expect && !n.crowded {
		n.crowded = true
		n.log.Warn("more members are here than Expect says: two parts of them may both be a majority, so raise it everywhere",
			zap.Int("here", here), zap.Int("expect", n.cfg.Expect))
	}
}
