package gossip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// receiveBuffer is what may wait to be read, in bytes.
const receiveBuffer = 2 << 20

// port is where a node listens, and from where it reaches others: TCP and UDP at one number.
// Tests have ports of their own, in networks that they can cut.
type port interface {
	Addr() netip.AddrPort
	Accept() (net.Conn, error)
	Dial(ctx context.Context, to string, timeout time.Duration) (net.Conn, error)
	ReadFrom(b []byte) (int, net.Addr, error)
	WriteTo(b []byte, to netip.AddrPort) error
	Close() error // ends Accept and ReadFrom
}

// sockets are the port of a real network.
type sockets struct {
	*net.TCPListener
	udp *net.UDPConn
}

// openSockets listens at one address. Port 0 is any that is free.
func openSockets(at netip.AddrPort) (port, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	number := uint16(tcp.Addr().(*net.TCPAddr).Port)
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), number)))
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	_ = udp.SetReadBuffer(receiveBuffer) // a smaller one does too
	return sockets{tcp, udp}, nil
}

func (s sockets) Addr() netip.AddrPort {
	at := s.TCPListener.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

func (sockets) Dial(ctx context.Context, to string, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	return dialer.DialContext(ctx, "tcp", to)
}

func (s sockets) ReadFrom(b []byte) (int, net.Addr, error) { return s.udp.ReadFrom(b) }

func (s sockets) WriteTo(b []byte, to netip.AddrPort) error {
	_, err := s.udp.WriteToUDPAddrPort(b, to)
	return err
}

func (s sockets) Close() error {
	return errors.Join(s.TCPListener.Close(), s.udp.Close())
}
