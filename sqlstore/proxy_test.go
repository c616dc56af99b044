//go:build databases

package sqlstore_test

import (
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy is between a pool and a server. It can swallow all, and lead to another server.
type proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	target  string
	conns   map[net.Conn]bool // both ends of all, and whether anything passes
	passes  int               // how many pieces from clients still pass; negative: all
	swallow bool              // nothing passes any more, in any direction
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: listener, target: target, conns: map[net.Conn]bool{}, passes: -1}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.lead(target)
		p.running.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// lead ends all connections, and lets those that come lead to a server.
func (p *proxy) lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target, p.passes, p.swallow = target, -1, false
	for c := range p.conns {
		c.Close()
	}
	p.conns = map[net.Conn]bool{}
}

// mute has nothing pass any more by the connections that are there, which nothing tells them. Others may come.
func (p *proxy) mute() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		p.conns[c] = false
	}
}

// swallowAfter lets so many more pieces pass from clients, and then nothing.
func (p *proxy) swallowAfter(pieces int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passes = pieces
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			p.mu.Unlock()
			continue
		}
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.running.Go(func() { p.carry(client, server, true) })
		p.running.Go(func() { p.carry(server, client, false) })
	}
}

func (p *proxy) carry(from, to net.Conn, up bool) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if !p.may(from, up) {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// may reports whether a piece passes.
func (p *proxy) may(from net.Conn, up bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if up && p.passes == 0 {
		p.swallow = true
	}
	if up && p.passes > 0 {
		p.passes--
	}
	return !p.swallow && p.conns[from]
}
