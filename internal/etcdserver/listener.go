package etcdserver

import (
	"net"
	"sync"
)

// Tracked returns a listener that closes with itself the connections that it has accepted.
// Stopping, gRPC closes those that it knows, and waits for the others, on which a client
// has not said hello yet: for up to two minutes.
func Tracked(l net.Listener) net.Listener {
	return &listener{Listener: l, conns: map[net.Conn]bool{}}
}

type listener struct {
	net.Listener

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]bool
	closed bool
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	l.conns[c] = true
	return &conn{c, l}, nil
}

func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.conns {
		c.Close()
	}
	return l.Listener.Close()
}

// conn is a connection that its listener forgets when it is closed.
type conn struct {
	net.Conn
	listener *listener
}

func (c *conn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.conns, c.Conn)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}
