//go:build linux && faults

package faults_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// line is a proxy between members and one server, where the faults of a network
// happen. What is cut is silent: bytes sent meanwhile are kept, as by TCP, and
// so is the end of a connection.
type line struct {
	listener net.Listener
	target   string
	up, down direction // to the server, and from it
	running  sync.WaitGroup

	// onRequest is called when bytes for the server arrive. Optional.
	onRequest func()

	mu    sync.Mutex // guards what follows
	conns map[*wire]struct{}
	ended bool
}

// wire is one connection through a line: two of TCP.
type wire struct {
	client, server net.Conn
	done           chan struct{} // closed with both
	once           sync.Once
}

func (w *wire) close() {
	w.once.Do(func() {
		close(w.done)
		w.client.Close()
		w.server.Close()
	})
}

// direction is one of the two ways through a line.
type direction struct {
	mu    sync.Mutex    // guards what follows
	open  chan struct{} // closed while bytes pass
	delay time.Duration
}

// newLine puts a line in front of a server's clients.
func newLine(t *testing.T, s *server) *line {
	t.Helper()
	return startLine(t, s.client, nil)
}

func startLine(t *testing.T, target string, onRequest func()) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &line{listener: listener, target: target, onRequest: onRequest, conns: make(map[*wire]struct{})}
	l.heal(false)
	l.running.Go(l.accept)
	t.Cleanup(l.end)
	return l
}

// end closes the line and waits for its goroutines.
func (l *line) end() {
	l.listener.Close()
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.reset()
	l.running.Wait()
}

func (l *line) address() string { return l.listener.Addr().String() }
func (l *line) url() string     { return "http://" + l.address() }

// cut lets nothing more pass in the given directions, and returns when that is so.
func (l *line) cut(up, down bool) {
	if up {
		l.up.close()
	}
	if down {
		l.down.close()
	}
}

// slow delays every answer from now on.
func (l *line) slow(d time.Duration) {
	l.down.mu.Lock()
	defer l.down.mu.Unlock()
	l.down.delay = d
}

// heal lets everything pass, first what was kept; or, with a reset, only what
// comes from now on by new connections.
func (l *line) heal(reset bool) {
	if reset {
		l.reset()
	}
	l.up.release()
	l.down.release()
}

// reset ends all connections.
func (l *line) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.conns {
		w.close()
	}
}

func (d *direction) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.open:
		d.open = make(chan struct{})
	default: // it is
	}
}

func (d *direction) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		d.open = make(chan struct{})
	}
	select {
	case <-d.open:
	default:
		close(d.open)
	}
}

// pass waits until what arrived at a time may pass, and reports false if the
// connection ended first.
func (d *direction) pass(arrived time.Time, done <-chan struct{}) bool {
	d.mu.Lock()
	open, wait := d.open, d.delay-time.Since(arrived)
	d.mu.Unlock()
	if wait > 0 {
		timer := time.NewTimer(wait) // the network's own time
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-done:
			return false
		}
		d.mu.Lock()
		open = d.open // it may have been cut meanwhile
		d.mu.Unlock()
	}
	select {
	case <-open:
		return true
	case <-done:
		return false
	}
}

func (l *line) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", l.target)
		if err != nil {
			client.Close()
			continue
		}
		w := &wire{client: client, server: server, done: make(chan struct{})}
		l.mu.Lock()
		l.conns[w] = struct{}{}
		if l.ended {
			w.close()
		}
		l.mu.Unlock()
		l.running.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { l.carry(w, &l.up, w.client, w.server) })
			both.Go(func() { l.carry(w, &l.down, w.server, w.client) })
			both.Wait()
			l.mu.Lock()
			delete(l.conns, w)
			l.mu.Unlock()
		})
	}
}

type parcel struct {
	bytes   []byte
	arrived time.Time
}

// carry moves the bytes of one direction until the connection ends. The end is
// passed on like a byte: a member that closes a connection while it is cut is
// still there for the server.
func (l *line) carry(w *wire, d *direction, from, to net.Conn) {
	defer w.close()
	parcels := make(chan parcel, 256)
	l.running.Go(func() {
		defer close(parcels)
		for {
			buffer := make([]byte, 16<<10)
			n, err := from.Read(buffer)
			if n > 0 && d == &l.up && l.onRequest != nil {
				l.onRequest()
			}
			select {
			case parcels <- parcel{buffer[:n], time.Now()}:
			case <-w.done:
				return
			}
			if err != nil {
				return
			}
		}
	})
	for p := range parcels {
		if !d.pass(p.arrived, w.done) {
			break
		}
		if _, err := to.Write(p.bytes); err != nil {
			break
		}
	}
}
