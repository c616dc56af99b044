package heartbeats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/libcluster/libcluster/internal/hostport"
	"github.com/libcluster/libcluster/kv"
)

// network is what a Store sends and hears by.
type network struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	listen func(ctx context.Context, address string) (net.PacketConn, error)
	dial   func(ctx context.Context, address string) (net.Conn, error)
}

// udp is the real one. A socket that is connected is told when the other end refuses.
func udp() network {
	var (
		listener net.ListenConfig
		dialer   net.Dialer
	)
	return network{
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		listen: func(ctx context.Context, address string) (net.PacketConn, error) {
			return listener.ListenPacket(ctx, "udp", address)
		},
		dial: func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "udp", address)
		},
	}
}

// addresses returns those that HOST:PORT stands for now.
func (n network) addresses(ctx context.Context, address string) (all []string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return []string{address}, nil
	}
	ips, err := n.lookup(ctx, host)
	for _, ip := range ips {
		all = append(all, net.JoinHostPort(ip.Unmap().String(), port))
	}
	return all, err
}

// reach dials one of the addresses that HOST:PORT stands for, of which the next one has its turn
// when one refuses. It returns how many there are.
func (n network) reach(ctx context.Context, address string, turn int) (conn net.Conn, of int, err error) {
	all, err := n.addresses(ctx, address)
	for i := range all {
		if conn, err = n.dial(ctx, all[(turn+i)%len(all)]); err == nil {
			break
		}
	}
	if conn == nil && err == nil {
		err = fmt.Errorf("%q has no address", address)
	}
	return conn, len(all), err
}

// port is where all leases of a Store listen.
type port struct {
	conn    net.PacketConn
	config  Config
	key     []byte
	reading sync.WaitGroup

	mu      sync.Mutex // guards what follows
	address string     // at which the others reach it
	voices  map[*voice]bool
	looks   map[string]bool      // spaces that are about to be looked at
	looked  map[string]time.Time // when they were
}

// openPort listens. The errors say what to change.
func openPort(ctx context.Context, c Config, n network, look func(space string)) (*port, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	conn, err := n.listen(ctx, c.Bind)
	if err != nil {
		return nil, fmt.Errorf("heartbeats.Config.Bind: cannot listen at %q: %w; each process needs a port of its own, or port 0", c.Bind, err)
	}
	p := &port{conn: conn, config: c, key: make([]byte, keySize), voices: map[*voice]bool{}, looks: map[string]bool{}, looked: map[string]time.Time{}}
	_, _ = rand.Read(p.key) // never fails
	if p.address, err = c.advertised(conn.LocalAddr()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	p.reading.Go(func() { p.read(look) })
	return p, nil
}

// advertised returns where the others reach who listens at bound.
func (c Config) advertised(bound net.Addr) (string, error) {
	at, err := netip.ParseAddrPort(bound.String())
	if err != nil {
		return "", err
	}
	switch {
	case c.Advertise != "":
		host, number, err := hostport.Split(c.Advertise, true)
		if err != nil || number != 0 {
			return c.Advertise, err
		}
		return net.JoinHostPort(host, fmt.Sprint(at.Port())), nil
	case !at.Addr().IsUnspecified():
		return at.String(), nil
	}
	ip, err := hostport.Private()
	if err != nil {
		return "", fmt.Errorf("heartbeats.Config.Advertise: is missing, and is not found out: %w; give HOST:PORT", err)
	}
	return netip.AddrPortFrom(ip, at.Port()).String(), nil
}

// where returns at which address the others reach this process. One that was found out, and not
// given, is found out anew when this machine does not have it any more.
func (p *port) where() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at, err := netip.ParseAddrPort(p.address); err == nil && p.config.Advertise == "" && hostport.IsGone(at.Addr()) {
		if address, err := p.config.advertised(p.conn.LocalAddr()); err == nil {
			p.address = address
		}
	}
	return p.address
}

// read hands packets to those that may know the sender, until the port is closed, and has
// the spaces looked at in which something has changed.
func (p *port) read(look func(space string)) {
	buffer := make([]byte, largest+1)
	for {
		size, _, err := p.conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		heard, ok := decode(buffer[:size])
		if err != nil || !ok {
			continue // on Windows a packet that another port has refused
		}
		p.hear(heard, buffer[:size], look)
	}
}

const (
	// lookAgain is how soon a space is looked at again in which something has changed, and perLook
	// the part of a lease's life after which that is so since somebody was heard whom nobody here knows.
	lookAgain = 2 * time.Millisecond
	perLook   = 100
)

// hear has all voices hear a packet.
func (p *port) hear(heard packet, b []byte, look func(space string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, news := false, map[string]bool{}
	for v := range p.voices {
		knows, isNews := v.hear(heard, b)
		known = known || knows
		if isNews {
			news[v.name] = true
		}
	}
	for v := range p.voices {
		switch {
		case news[v.name]:
			p.lookSoon(v.name, lookAgain, look)
		case !known: // perhaps it has just come, which the store tells; but everybody may have sent this
			p.lookSoon(v.name, v.perLook(), look)
		}
	}
}

// lookSoon has a space looked at, but not more often than after a pause. mu is held.
func (p *port) lookSoon(space string, pause time.Duration, look func(space string)) {
	if p.looks[space] {
		return
	}
	p.looks[space] = true
	time.AfterFunc(pause-time.Since(p.looked[space]), func() {
		p.mu.Lock()
		p.looks[space], p.looked[space] = false, time.Now()
		p.mu.Unlock()
		look(space)
	})
}

// close ends the reading.
func (p *port) close() {
	_ = p.conn.Close() // nothing is lost
	p.reading.Wait()
}

// enter has a voice listen. The first one opens the port.
func (s *Store) enter(ctx context.Context, v *voice) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.port == nil {
		if s.port, err = openPort(ctx, s.config, s.network, s.look); err != nil {
			s.port = nil
			return fmt.Errorf("%w: %w", kv.ErrRefused, err)
		}
	}
	v.port = s.port
	s.port.mu.Lock()
	defer s.port.mu.Unlock()
	s.port.voices[v] = true
	return nil
}

// leave has a voice not listen any more. The last one closes the port.
func (s *Store) leave(v *voice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.port.mu.Lock()
	delete(s.port.voices, v)
	last := len(s.port.voices) == 0
	s.port.mu.Unlock()
	if last {
		s.port.close()
		s.port = nil
	}
}

const (
	// dialAgain is how soon a name is looked up again that cannot be.
	dialAgain = time.Second
	// refusedAgain is how soon a second packet is sent to a port that has refused one.
	refusedAgain = 5 * time.Millisecond
)

// line is the way to another lease.
type line struct {
	owner   kv.Owner
	address string
	end     context.CancelFunc
	mu      sync.Mutex
	conn    net.Conn // nil: there is none yet
	of      int      // how many addresses its name has
	turn    int      // how often one of several has refused
}

// send sends a packet, and reports whether the port has refused one before. A socket that
// cannot send any more, as when its address has gone, is given up for another one.
func (l *line) send(b []byte) (refused bool) {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return false
	}
	_, err := conn.Write(b)
	refused = hostport.IsRefused(err)
	if err != nil && (!refused || l.next()) {
		_ = conn.Close()
	}
	return refused
}

// next gives its turn to the next of several addresses, since one has refused. It reports whether
// there are several.
func (l *line) next() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of > 1 {
		l.turn++
	}
	return l.of > 1
}

// hold keeps a socket until ctx ends. It calls dialled when there is one, and refused when the port
// has refused a packet.
func (l *line) hold(ctx context.Context, n network, dialled, refused func()) {
	for ctx.Err() == nil {
		turn := l.turns()
		conn, of, err := n.reach(ctx, l.address, turn)
		if err == nil {
			l.set(conn, of)
			unblock := context.AfterFunc(ctx, func() { _ = conn.Close() })
			dialled()
			for err == nil {
				if _, err = conn.Read(make([]byte, 1)); hostport.IsRefused(err) {
					if !l.next() {
						err = nil
					}
					refused()
				}
			}
			unblock()
			l.set(nil, of)
			_ = conn.Close()
		}
		if turns := l.turns(); turns == turn || turns%max(1, of) == 0 { // or the next address has its turn at once
			sleep(ctx, dialAgain)
		}
	}
}

func (l *line) set(conn net.Conn, of int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn, l.of = conn, of
}

func (l *line) turns() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.turn
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
