package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/quote"
)

const (
	// These are memberlist's settings. Its defaults for one machine lose broadcasts, and those
	// for a network take 8 s to notice a crash.
	longestGossip    = 200 * time.Millisecond // otherwise a quarter of the time between probes
	retransmitMult   = 5
	suspicionMult    = 2
	suspicionMaxMult = 3
	pushPullEvery    = 10 * time.Second
	streamTimeout    = 10 * time.Second
	gossipToTheDead  = 30 * time.Second
	leaveBroadcast   = 200 * time.Millisecond

	// A message larger than a packet goes through a connection. memberlist takes no message
	// larger than 20 MiB.
	largestPacket   = 1200
	largestMessage  = 1 << 20
	largestPushPull = 8 << 20
)

// node is one process's part in the gossip of one cluster: memberlist says who is up, and
// records says what they have published. It lives from a membership's first Join to its Leave.
type node struct {
	cfg       Config
	reg       libcluster.Registration
	name      string // when it was started, and a random number: no other node ever has it
	log       *zap.Logger
	transport *transport
	list      *memberlist.Memberlist // once ready is closed; nil: it has not started
	ready     chan struct{}

	ctx     context.Context // ends with the node
	cancel  context.CancelFunc
	started sync.WaitGroup // its goroutines

	ending sync.Mutex // memberlist panics where it is to leave and was shut down

	mu      sync.Mutex // guards what follows
	closed  bool
	records records
	own     entry    // what this node publishes; Version 0: nothing yet
	session *session // the latest; nil: none
	changed chan struct{}
	asked   map[uint64]*question
	asks    uint64 // the number of the last one
	crowded bool   // it has warned of too many members
}

// start opens the ports and begins to take part. Nobody is known yet.
func start(ctx context.Context, cfg Config, reg libcluster.Registration) (*node, error) {
	keys, err := cfg.keyring()
	if err != nil {
		return nil, err
	}
	name := newName(cfg.world().now())
	n := &node{
		cfg: cfg, reg: reg, name: name, log: reg.Logger,
		ready: make(chan struct{}), records: newRecords(name), changed: make(chan struct{}), asked: map[uint64]*question{},
		asks: rand.Uint64() >> 1, // or an answer to the node before at this port would count
	}
	logger := log.New(logWriter{n.log}, "", 0)
	if n.transport, err = listen(ctx, cfg); err != nil {
		return nil, err
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if cfg.wantsSecret(n.transport.address.Addr()) {
		n.log.Warn("gossip.Config.Secret is empty: every program that reaches the port can change the cluster",
			zap.Stringer("address", n.transport.address))
	}
	list := memberlist.DefaultLANConfig()
	list.Name, list.Label, list.Keyring = n.name, label(reg.Cluster()), keys
	list.Transport, list.Logger, list.Delegate, list.Events = n.transport, logger, delegate{n}, delegate{n}
	list.ProbeInterval, list.ProbeTimeout = cfg.world().probe, cfg.world().probe/2
	list.SuspicionMult, list.SuspicionMaxTimeoutMult = suspicionMult, suspicionMaxMult
	list.GossipInterval, list.RetransmitMult = min(cfg.world().probe/4, longestGossip), retransmitMult
	list.PushPullInterval, list.TCPTimeout = pushPullEvery, streamTimeout
	list.GossipToTheDeadTime = gossipToTheDead
	list.EnableCompression = false // nobody has to expand what strangers have sent
	n.list, err = memberlist.Create(list)
	close(n.ready)
	if err != nil {
		n.cancel()
		return nil, errors.Join(err, n.transport.Shutdown())
	}
	n.spawn(n.tend)
	n.spawn(n.watch)
	return n, nil
}

// newName returns a name that sorts by when it was drawn, and is short since it is in most packets.
func newName(now time.Time) string {
	pad := func(digits int, number int64) string {
		text := strconv.FormatInt(number, 36)
		return strings.Repeat("0", max(0, digits-len(text))) + text
	}
	const digits, below = 5, 36 * 36 * 36 * 36 * 36
	return pad(9, now.UnixMilli()) + pad(digits, rand.Int64N(below))
}

// spawn runs something in a goroutine that ends soon after the node.
func (n *node) spawn(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.started.Go(do)
	}
}

// stop ends the node at once. The others find its port refused.
func (n *node) stop() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	n.ending.Lock()
	_ = n.list.Shutdown() // it never fails
	n.ending.Unlock()
	n.started.Wait()
}

// leave tells everybody that the record has gone, and ends the node.
func (n *node) leave(ctx context.Context) {
	n.mu.Lock()
	publishes := n.publishes()
	if publishes {
		n.publish(func(e *entry) { e.Gone, e.Record = true, nil })
	}
	own := n.own
	n.mu.Unlock()
	if publishes {
		n.tellEverybody(ctx, own)
	}
	n.ending.Lock()
	if ctx.Err() == nil && n.ctx.Err() == nil {
		_ = n.list.Leave(leaveBroadcast) // a node that does not hear of it finds the port refused
	}
	n.ending.Unlock()
	n.stop()
}

// wake has everybody look who waits for a change. The caller holds mu.
func (n *node) wake() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// publish changes what this node publishes, and returns it. The caller holds mu.
func (n *node) publish(change func(*entry)) entry {
	n.own.Version++
	change(&n.own)
	n.records.put(n.own, time.Now())
	n.wake()
	return n.own
}

// publishes reports whether there is a member at this node. The caller holds mu.
func (n *node) publishes() bool { return n.own.Version > 0 && !n.own.Gone }

// receive takes in a message.
func (n *node) receive(m message) {
	now := time.Now()
	n.mu.Lock()
	news := false
	for _, e := range m.Entries {
		news = n.records.put(e, now) || news
	}
	if m.Hold > 0 {
		n.records.hold(m.From, m.Ask, now.Add(m.hold()))
	}
	if news {
		n.defend(now)
		n.wake()
	}
	reply := n.reply(m, now)
	if q := n.asked[m.Answer]; q != nil {
		q.answered(m)
	}
	n.mu.Unlock()
	switch {
	case reply == nil:
	case m.Ask != 0:
		n.send(m.Address, *reply)
	default: // the two compare, because something was lost before
		n.sendSafely(m.Address, *reply)
	}
}

// defend looks whether others have said something about this node's record: that it has gone,
// which is wrong, or that another node has the ID, which then has it. The caller holds mu.
func (n *node) defend(now time.Time) {
	if !n.publishes() {
		return
	}
	if known := n.records.entries[n.name]; known.rank() > n.own.rank() {
		n.own.Version = known.Version
		n.tellLater(n.publish(func(*entry) {}))
	}
	if holder, _ := n.records.holder(n.own.ID, now); holder.Node != n.name {
		if n.session != nil {
			n.session.end(libcluster.ErrInstanceTaken)
		}
		n.tellLater(n.publish(func(e *entry) { e.Gone = true }))
	}
}

// reply returns what the sender of a message wants to know; nil: nothing. The caller holds mu.
func (n *node) reply(m message, now time.Time) *message {
	reply := n.message()
	switch {
	case m.Ask != 0:
		reply.Answer = m.Ask
		if len(m.Entries) > 0 {
			asked := m.Entries[0]
			holder, there := n.records.holder(asked.ID, now)
			reply.Vouches = n.publishes() && there && holder.Node == asked.Node && holder.rank() >= asked.rank()
		}
	case m.Sum != nil:
		reply.Digest = n.records.digest()
		if *m.Sum == sum(reply.Digest) {
			return nil
		}
	case m.Digest != nil:
		reply.Entries = n.records.newer(m.Digest)
		if len(reply.Entries) == 0 {
			return nil
		}
	default:
		return nil
	}
	return &reply
}

func (n *node) message() message {
	return message{From: n.name, Address: n.transport.address.String()}
}

// send sends a message to an address, in a packet, which may be lost, if it fits into one.
func (n *node) send(address string, m message) {
	if text := m.encode(); len(text) <= largestPacket {
		_ = n.list.SendToAddress(memberlist.Address{Addr: address}, text) // as if it were lost
		return
	}
	n.sendSafely(address, m)
}

// sendSafely sends a message through connections.
func (n *node) sendSafely(address string, m message) {
	n.spawn(func() {
		for _, part := range m.split() {
			if err := n.stream(address, part); err != nil {
				n.log.Debug("a record was not sent", zap.String("to", address), zap.Error(err))
				return
			}
		}
	})
}

// split returns a message in parts that memberlist takes.
func (m message) split() (parts []message) {
	size, part := 0, m
	part.Entries = nil
	for _, e := range m.Entries {
		if size += len(e.Record); size > largestMessage && len(part.Entries) > 0 {
			parts = append(parts, part)
			size, part.Entries = len(e.Record), nil
		}
		part.Entries = append(part.Entries, e)
	}
	return append(parts, part)
}

// stream sends a message through a connection of its own.
func (n *node) stream(address string, m message) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	ip := net.ParseIP(host)
	if err != nil || ip == nil {
		return fmt.Errorf("%q is no address", address)
	}
	return n.list.SendReliable(&memberlist.Node{Addr: ip, Port: uint16(number)}, m.encode())
}

// delegate is what memberlist calls. It may hold locks then, so nothing here calls it back but
// in NotifyMsg and MergeRemoteState, for which it holds none.
type delegate struct{ *node }

func (d delegate) NodeMeta(int) []byte             { return nil }
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d delegate) NotifyUpdate(*memberlist.Node)   {}

// NotifyMsg takes in a message of another node.
func (d delegate) NotifyMsg(text []byte) {
	m, err := decode(text)
	<-d.ready // memberlist listens before it has been returned
	switch {
	case d.list == nil:
		return
	case err != nil:
		d.log.Debug("a message is dropped", zap.Error(err))
		return
	}
	d.receive(m)
}

// LocalState is what another node is told when memberlist compares what the two know: all, as
// far as it is not too large, if one of them has just come; otherwise only the sum.
func (d delegate) LocalState(join bool) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.message()
	if digest := sum(d.records.digest()); !join {
		m.Sum = &digest
		return m.encode()
	}
	size := 0
	for _, e := range d.records.newer(nil) {
		if size += len(e.Record); size > largestPushPull {
			break // the sums differ, so it comes later
		}
		m.Entries = append(m.Entries, e)
	}
	return m.encode()
}

// MergeRemoteState takes in the LocalState of another node.
func (d delegate) MergeRemoteState(text []byte, _ bool) { d.NotifyMsg(text) }

// NotifyJoin notes that a node is up. It may not know of this one yet, if both have just come.
func (d delegate) NotifyJoin(of *memberlist.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records.setUp(of.Name, of.Address(), time.Now())
	d.wake()
	if of.Name != d.name && d.publishes() && !d.closed {
		greeting, address := d.message(), of.Address()
		greeting.Entries = []entry{d.own}
		d.started.Go(func() { d.send(address, greeting) })
	}
}

// NotifyLeave notes that a node is down.
func (d delegate) NotifyLeave(of *memberlist.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records.setDown(of.Name, time.Now())
	d.wake()
}

// logWriter logs what memberlist has to say, most of which concerns nobody.
type logWriter struct{ log *zap.Logger }

var _ io.Writer = logWriter{}

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Debug("memberlist", zap.String("says", quote.Text(string(line))))
	return len(line), nil
}
