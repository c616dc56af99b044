package gossip_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/libcluster/libcluster/gossip"
)

const (
	// latency is that of the network in memory.
	latency = time.Millisecond
	// streamBuffer is what a connection takes that nobody reads, and packetsWaiting how many packets wait.
	streamBuffer, packetsWaiting = 64 << 10, 10_000
)

// cuts say who reaches whom in a network.
type cuts struct {
	mu     sync.Mutex     // guards what follows, and all else of a network that embeds it
	sides  map[string]int // by address
	oneWay [2]string      // nothing comes from the first address to the second
	lost   int            // what was to go that way
}

func (c *cuts) reaches(from, to string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.oneWay == [2]string{from, to} {
		c.lost++
		return false
	}
	return c.sides[from] == c.sides[to]
}

// cut puts addresses on another side.
func (c *cuts) cut(addresses ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sides = map[string]int{}
	for _, a := range addresses {
		c.sides[a] = 1
	}
}

// cutOneWay has nothing come from one address to another.
func (c *cuts) cutOneWay(from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.oneWay = [2]string{from, to}
}

func (c *cuts) losses() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// connects reports whether a connection can be made, which needs both ways.
func (c *cuts) connects(from, to string) bool { return c.reaches(from, to) && c.reaches(to, from) }

// network is one in memory, for virtual time: there no machine is so busy that a node is taken for dead.
type network struct {
	cuts
	ports        map[netip.AddrPort]*memoryPort
	named        uint16 // the number of the last address
	loses, twice float64
	late         time.Duration
	stopped      []string
}

// inVirtualTime runs a test of instances in a network of its own.
func inVirtualTime(t *testing.T, test func(t *testing.T, net *network)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// The time that memberlist's goroutines take to end, after all else has.
		t.Cleanup(func() { time.Sleep(time.Minute) })
		test(t, &network{ports: map[netip.AddrPort]*memoryPort{}, named: 10_000})
	})
}

// set says which part of all packets is lost, which part of the others comes twice, and by how much they may
// be late.
func (n *network) set(loses, twice float64, late time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loses, n.twice, n.late = loses, twice, late
}

// stop stops the processes at these addresses, and those at all other addresses go on. A connection to one
// of them can be made, and nobody reads. Connections that were there before go on.
func (n *network) stop(addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped = addresses
}

func (n *network) isStopped(address string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.stopped, address)
}

// arrivals are after how long a packet arrives, each time that it does.
func (n *network) arrivals() (all []time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if rand.Float64() < n.loses {
		return nil
	}
	all = []time.Duration{latency + rand.N(n.late+1)}
	if rand.Float64() < n.twice {
		all = append(all, latency+rand.N(n.late+1))
	}
	return all
}

// world is the real one, but for the network.
func (n *network) world() gossip.World { return gossip.World{Listen: n.listen} }

// addresses returns several that are free.
func (n *network) addresses(many int) (all []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for range many {
		n.named++
		all = append(all, fmt.Sprintf("127.0.0.1:%d", n.named))
	}
	return all
}

// one returns the Config of instances that all have the same, with one address as their seed.
func (n *network) one() gossip.Config {
	return gossip.Config{Seeds: n.addresses(1)}.In(n.world())
}

func (n *network) listen(at netip.AddrPort) (gossip.Port, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at.Port() == 0 {
		n.named++
		at = netip.AddrPortFrom(at.Addr(), n.named)
	}
	if n.ports[at] != nil {
		return nil, syscall.EADDRINUSE
	}
	p := &memoryPort{bufconn.Listen(streamBuffer), n, at, make(chan packet, packetsWaiting), make(chan struct{})}
	n.ports[at] = p
	return p, nil
}

func (n *network) at(address netip.AddrPort) *memoryPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ports[address]
}

// memoryPort is a port of a network in memory.
type memoryPort struct {
	*bufconn.Listener
	net     *network
	at      netip.AddrPort
	packets chan packet
	closed  chan struct{}
}

type packet struct {
	text string
	from net.Addr
}

func (p *memoryPort) Addr() netip.AddrPort { return p.at }

func (p *memoryPort) Accept() (net.Conn, error) {
	conn, err := p.Listener.Accept()
	return &kernelConn{Conn: conn}, err
}

func (p *memoryPort) Dial(ctx context.Context, to string, timeout time.Duration) (net.Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	address, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, err
	}
	if !p.net.connects(p.at.String(), to) || p.net.isStopped(p.at.String()) {
		<-dialing.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	}
	time.Sleep(latency)
	if p.net.isStopped(to) {
		nobody := bufconn.Listen(streamBuffer)
		go nobody.Accept()
		return nobody.DialContext(dialing)
	}
	if other := p.net.at(address); other != nil {
		if conn, err := other.DialContext(dialing); err == nil || dialing.Err() != nil {
			return &kernelConn{Conn: conn}, err
		}
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

func (p *memoryPort) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case next := <-p.packets:
		return copy(b, next.text), next.from, nil
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}

func (p *memoryPort) WriteTo(b []byte, to netip.AddrPort) error {
	if !p.net.reaches(p.at.String(), to.String()) || p.net.isStopped(p.at.String()) || p.net.isStopped(to.String()) {
		return nil
	}
	sent := packet{string(b), net.UDPAddrFromAddrPort(p.at)}
	for _, after := range p.net.arrivals() {
		time.AfterFunc(after, func() {
			if other := p.net.at(to); other != nil {
				select {
				case other.packets <- sent:
				default: // lost
				}
			}
		})
	}
	return nil
}

func (p *memoryPort) Close() error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if p.net.ports[p.at] == p {
		delete(p.net.ports, p.at)
		close(p.closed)
	}
	return p.Listener.Close()
}

// kernelConn is a connection whose other end may have been closed: a kernel takes what is written
// to it all the same, and it is the next reading that tells.
type kernelConn struct {
	net.Conn
	closed atomic.Bool // at this end
}

func (c *kernelConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if errors.Is(err, io.ErrClosedPipe) && !c.closed.Load() {
		return len(b), nil
	}
	return n, err
}

func (c *kernelConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}
