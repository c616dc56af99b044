package heartbeats

import (
	"context"
	"net"
	"net/netip"
)

// Lookup has a Store find these addresses for each name.
func (s *Store) Lookup(addresses ...netip.Addr) {
	s.network.lookup = func(context.Context, string) ([]netip.Addr, error) { return addresses, nil }
}

// Through has a Store be told where it listens, and lose what it sends to some addresses, or
// receives. It counts what it is about to send.
func (s *Store) Through(listens func(address string), loses func(to string) bool) {
	real := s.network
	s.network = network{
		lookup: real.lookup,
		listen: func(ctx context.Context, address string) (net.PacketConn, error) {
			conn, err := real.listen(ctx, address)
			if err == nil {
				listens(conn.LocalAddr().String())
			}
			return conn, err
		},
		dial: func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := real.dial(ctx, address)
			if err != nil {
				return nil, err
			}
			return lossy{conn, func() bool { return loses(address) }}, nil
		},
	}
}

type lossy struct {
	net.Conn
	loses func() bool
}

func (l lossy) Write(b []byte) (int, error) {
	if l.loses() {
		return len(b), nil
	}
	return l.Conn.Write(b)
}
