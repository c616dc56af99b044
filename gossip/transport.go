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
	// largestDatagram is what UDP can carry.
	largestDatagram = 64 << 10
	// acceptAgain is how long to wait when a connection cannot be accepted, for want of files.
	acceptAgain = 100 * time.Millisecond
)

// transport is how memberlist sends and receives. Unlike memberlist's own it closes all
// connections when it ends, and it does not take 64 KiB of memory for each packet.
type transport struct {
	port    port
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

// listen opens the port.
func listen(ctx context.Context, cfg Config) (*transport, error) {
	port, err := bind(ctx, cfg)
	if err != nil {
		return nil, err
	}
	t := &transport{
		port: port, open: map[net.Conn]struct{}{},
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	if t.address, err = advertised(ctx, cfg, port.Addr()); err != nil {
		return nil, errors.Join(err, t.Shutdown())
	}
	t.reading.Go(t.accept)
	t.reading.Go(t.read)
	return t, nil
}

// bind listens at Bind, or where the documentation of Bind says.
func bind(ctx context.Context, cfg Config) (port, error) {
	if cfg.Bind != "" {
		all, err := cfg.resolve(ctx, cfg.Bind)
		if err != nil {
			return nil, fmt.Errorf("gossip.Config.Bind: %w", err)
		}
		p, err := cfg.bindAt(all[0])
		if err != nil {
			err = fmt.Errorf("gossip.Config.Bind: cannot listen at %q: %w; each instance needs an address and port of its own", cfg.Bind, err)
		}
		return p, err
	}
	at := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	for _, seed := range cfg.Seeds {
		all, _ := cfg.resolve(ctx, seed) // an error is told when the seed is looked for
		for _, address := range all {
			p, err := cfg.bindAt(address)
			if err == nil {
				return p, nil
			}
			if hostport.IsInUse(err) && at.Addr().IsUnspecified() {
				at = netip.AddrPortFrom(address.Addr(), 0)
			}
		}
	}
	p, err := cfg.bindAt(at)
	if err != nil {
		err = fmt.Errorf("gossip.Config.Bind: is empty, and cannot listen at any port of %v: %w", at.Addr(), err)
	}
	return p, err
}

// bindAt listens at one address. Of free ports it tries several.
func (c Config) bindAt(at netip.AddrPort) (p port, err error) {
	for range portTrials {
		if p, err = c.world().listen(at); err == nil || at.Port() != 0 {
			break
		}
	}
	return p, err
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
	address, err := netip.ParseAddrPort(to.Addr)
	if err != nil {
		return time.Time{}, err
	}
	return time.Now(), t.port.WriteTo(b, address)
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
	conn, err := t.port.Dial(ctx, address, min(timeout, dialTimeout))
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
		inner, err := t.port.Accept()
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
		size, from, err := t.port.ReadFrom(buffer)
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
	err := t.port.Close()
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

// hostPorts returns addresses as texts, each once, without some.
func hostPorts(all []netip.AddrPort, without ...string) (texts []string) {
	for _, address := range all {
		if text := address.String(); !slices.Contains(without, text) && !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return texts
}
