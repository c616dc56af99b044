package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/libcluster/libcluster/internal/hostport"
)

const (
	// dialTimeout bounds the making of a connection: in a few seconds somebody is there or not.
	dialTimeout = 3 * time.Second
	// portTrials is how many free ports are tried: one that is free for TCP may not be for UDP.
	portTrials = 10
	// largestDatagram is what UDP can carry, and receiveBuffer what may wait to be read.
	largestDatagram = 64 << 10
	receiveBuffer   = 2 << 20
	// headers are those of IP and UDP, for counting.
	headers = 28
	// acceptAgain is how long to wait when a connection cannot be accepted, for want of files.
	acceptAgain = 100 * time.Millisecond
)

// transport is how memberlist sends and receives. Unlike memberlist's own it closes all
// connections when it ends, it does not take 64 KiB of memory for each packet, and it does what
// tests do to a network.
type transport struct {
	in      *world
	tcp     *net.TCPListener
	udp     *net.UDPConn
	address netip.AddrPort // at which the others reach it

	ctx     context.Context // ends with the transport
	cancel  context.CancelFunc
	packets chan *memberlist.Packet
	streams chan net.Conn
	reading sync.WaitGroup

	mu     sync.Mutex // guards what follows
	open   map[net.Conn]struct{}
	closed bool
}

// listen opens the ports.
func listen(ctx context.Context, cfg Config) (*transport, error) {
	tcp, udp, err := bind(ctx, cfg)
	if err != nil {
		return nil, err
	}
	_ = udp.SetReadBuffer(receiveBuffer) // a smaller one does too
	t := &transport{
		in: cfg.world(), tcp: tcp, udp: udp, open: map[net.Conn]struct{}{},
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	if t.address, err = advertised(ctx, cfg, t.bound()); err != nil {
		return nil, errors.Join(err, t.Shutdown())
	}
	t.reading.Go(t.accept)
	t.reading.Go(t.read)
	return t, nil
}

func (t *transport) bound() netip.AddrPort {
	at := t.tcp.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// bind listens at Bind, or where the documentation of Bind says.
func bind(ctx context.Context, cfg Config) (*net.TCPListener, *net.UDPConn, error) {
	if cfg.Bind != "" {
		all, err := cfg.resolve(ctx, cfg.Bind)
		if err != nil {
			return nil, nil, fmt.Errorf("gossip.Config.Bind: %w", err)
		}
		tcp, udp, err := bindAt(all[0])
		if err != nil {
			err = fmt.Errorf("gossip.Config.Bind: cannot listen at %q: %w; each instance needs an address and port of its own", cfg.Bind, err)
		}
		return tcp, udp, err
	}
	at := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	for _, seed := range cfg.Seeds {
		all, _ := cfg.resolve(ctx, seed) // an error is told when the seed is looked for
		for _, address := range all {
			tcp, udp, err := bindAt(address)
			if err == nil {
				return tcp, udp, nil
			}
			if hostport.IsInUse(err) && at.Addr().IsUnspecified() {
				at = netip.AddrPortFrom(address.Addr(), 0)
			}
		}
	}
	tcp, udp, err := bindAt(at)
	if err != nil {
		err = fmt.Errorf("gossip.Config.Bind: is empty, and cannot listen at any port of %v: %w", at.Addr(), err)
	}
	return tcp, udp, err
}

// bindAt listens at one address, with UDP at the same port as with TCP.
func bindAt(at netip.AddrPort) (tcp *net.TCPListener, udp *net.UDPConn, err error) {
	for range portTrials {
		if tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)); err != nil {
			return nil, nil, err
		}
		port := uint16(tcp.Addr().(*net.TCPAddr).Port)
		udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), port)))
		if err == nil {
			return tcp, udp, nil
		}
		_ = tcp.Close()
		if at.Port() != 0 {
			break
		}
	}
	return nil, nil, err
}

// advertised returns where the others reach a node that listens at bound.
func advertised(ctx context.Context, cfg Config, bound netip.AddrPort) (netip.AddrPort, error) {
	if cfg.Advertise != "" {
		all, err := cfg.resolve(ctx, cfg.Advertise)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("gossip.Config.Advertise: %w", err)
		}
		if all[0].Port() == 0 {
			return netip.AddrPortFrom(all[0].Addr(), bound.Port()), nil
		}
		return all[0], nil
	}
	if !bound.Addr().IsUnspecified() {
		return bound, nil
	}
	ip, err := hostport.Private()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip.Config.Advertise: is missing, and is not found out: %w; give HOST:PORT", err)
	}
	return netip.AddrPortFrom(ip, bound.Port()), nil
}

// FinalAdvertiseAddr is called by memberlist.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.address.Addr().AsSlice(), int(t.address.Port()), nil
}

// WriteTo is called by memberlist.
func (t *transport) WriteTo(b []byte, address string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: address})
}

// WriteToAddress is called by memberlist.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	if !t.reaches(to.Addr) || t.in.loses != nil && t.in.loses() {
		return time.Now(), nil // lost on the way
	}
	address, err := netip.ParseAddrPort(to.Addr)
	if err != nil {
		return time.Time{}, err
	}
	t.count(len(b) + headers)
	_, err = t.udp.WriteToUDPAddrPort(b, address)
	return time.Now(), err
}

// DialTimeout is called by memberlist.
func (t *transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

// DialAddressTimeout is called by memberlist.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.dial(t.ctx, to.Addr, timeout)
}

func (t *transport) dial(ctx context.Context, address string, timeout time.Duration) (net.Conn, error) {
	if !t.reaches(address) || !t.isReached(address) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
	}
	dialer := net.Dialer{Timeout: min(timeout, dialTimeout)}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return t.track(conn)
}

// StreamCh is called by memberlist.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// PacketCh is called by memberlist.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// accept hands connections on to memberlist, until the transport ends.
func (t *transport) accept() {
	for t.ctx.Err() == nil {
		inner, err := t.tcp.Accept()
		if err != nil {
			sleep(t.ctx, acceptAgain)
			continue
		}
		conn, err := t.track(inner)
		if err != nil {
			return
		}
		select {
		case t.streams <- conn:
		case <-t.ctx.Done():
		}
	}
}

// read hands packets on to memberlist, until the transport ends.
func (t *transport) read() {
	buffer := make([]byte, largestDatagram)
	for t.ctx.Err() == nil {
		size, from, err := t.udp.ReadFrom(buffer)
		if err != nil || size == 0 {
			continue // on Windows a packet that another port has refused
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: bytes.Clone(buffer[:size]), From: from, Timestamp: time.Now()}:
		case <-t.ctx.Done():
		}
	}
}

// Shutdown is called by memberlist. It closes all connections too, so that none of memberlist's
// goroutines outlives it by its timeout.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	t.closed = true
	open := slices.Collect(maps.Keys(t.open))
	t.mu.Unlock()
	t.cancel()
	for _, conn := range open {
		_ = conn.Close()
	}
	err := errors.Join(t.tcp.Close(), t.udp.Close())
	t.reading.Wait()
	return err
}

// conn is a connection that its transport knows of.
type conn struct {
	net.Conn
	t *transport
}

// track notes a connection, or closes it if the transport has ended.
func (t *transport) track(inner net.Conn) (net.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = inner.Close()
		return nil, net.ErrClosed
	}
	c := &conn{inner, t}
	t.open[c] = struct{}{}
	return c, nil
}

func (c *conn) Close() error {
	c.t.mu.Lock()
	delete(c.t.open, c)
	c.t.mu.Unlock()
	return c.Conn.Close()
}

func (c *conn) Write(b []byte) (int, error) {
	c.t.count(len(b))
	return c.Conn.Write(b)
}

func (t *transport) reaches(address string) bool {
	return t.in.reaches == nil || t.in.reaches(t.address.String(), address)
}

func (t *transport) isReached(address string) bool {
	return t.in.reaches == nil || t.in.reaches(address, t.address.String())
}

func (t *transport) count(bytes int) {
	if t.in.sent != nil {
		t.in.sent(bytes)
	}
}

// hostPorts returns addresses as texts, each once, without some.
func hostPorts(all []netip.AddrPort, without ...string) (texts []string) {
	for _, address := range all {
		if text := address.String(); !slices.Contains(without, text) && !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return texts
}
