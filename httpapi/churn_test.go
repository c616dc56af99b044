package httpapi_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// pipes is a listener without a network, for virtual time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "pipe"} }

// closing is a connection that tells when the server has closed it.
type closing struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *closing) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// events asks for the events, and returns the client's end, and what is closed when the server
// has closed its own.
func (p *pipes) events(t *testing.T) (client net.Conn, closed <-chan struct{}) {
	t.Helper()
	return p.ask(t, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

func (p *pipes) ask(t *testing.T, request string) (client net.Conn, closed <-chan struct{}) {
	t.Helper()
	client, server := net.Pipe()
	c := &closing{Conn: server, closed: make(chan struct{})}
	p.conns <- c
	_, err := io.WriteString(client, request)
	require.NoError(t, err)
	return client, c.closed
}

// Nobody can hold a connection for long by a request that does not end, or a reply that is not read.
func TestClientThatStandsStillIsDropped(t *testing.T) {
	for name, request := range map[string]string{
		"in the header":    "GET / HTTP/1.1\r\nHost: loc",
		"before the body":  "POST /v1/state HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",
		"after it asked":   "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"and is refused":   "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"before the state": "GET /v1/state HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := handler(t, join(t, libclustertest.New(), "a"))
				l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
				ctx, end := context.WithCancel(t.Context())
				var serving sync.WaitGroup
				defer serving.Wait()
				defer end()
				serving.Go(func() { require.NoError(t, h.Serve(ctx, l)) })
				began := time.Now()
				client, closed := l.ask(t, request)
				defer client.Close()
				if strings.HasPrefix(request, "POST") { // it reads the answer
					go func() { _, _ = io.Copy(io.Discard, client) }()
				}
				select {
				case <-closed:
				case <-time.After(time.Hour):
				}
				require.LessOrEqual(t, time.Since(began), 31*time.Second)
			})
		})
	}
}

var churning = flag.Duration("churning", 15*time.Minute, "for how long a cluster changes twice a second, in virtual time")

// One client reads what changes, and another one never does, and comes again when it is dropped.
func TestChurnDelaysNoHeartbeatAndPilesUpNothing(t *testing.T) { // alone, since it looks at the heap
	synctest.Test(t, func(t *testing.T) {
		registry := libclustertest.New()
		var beats atomic.Int64
		var last time.Time
		registry.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpRenew {
				if beats.Add(1) > 1 {
					require.LessOrEqual(t, time.Since(last), libcluster.DefaultTTL/6+1, "a heartbeat was late")
				}
				last = time.Now()
			}
			return call.Send(ctx)
		})
		a := join(t, registry, "a", func(c *libcluster.Config) { c.Logger = zap.NewNop() }) // strangers are all it could tell of
		h := handler(t, a)
		l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		ctx, end := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		defer end()
		all.Go(func() { require.NoError(t, h.Serve(ctx, l)) })

		var seen atomic.Int64
		reader, _ := l.events(t)
		defer reader.Close()
		all.Go(func() {
			for lines := bufio.NewScanner(reader); lines.Scan(); {
				if strings.HasPrefix(lines.Text(), "event: view") {
					seen.Add(1)
				}
			}
		})
		var dropped atomic.Int64
		all.Go(func() {
			for {
				began := time.Now()
				deaf, closed := l.events(t)
				select {
				case <-closed:
					require.Less(t, time.Since(began), 17*time.Second)
					dropped.Add(1)
					require.NoError(t, deaf.Close())
				case <-ctx.Done():
					require.NoError(t, deaf.Close())
					return
				}
			}
		})

		changes := 0
		churn := func(d time.Duration) (goroutines int, heap int64) {
			for until := time.Now().Add(d); time.Now().Before(until); changes++ {
				registry.Put("mailer/production", fmt.Sprint("b", changes%100), fmt.Append(nil, 1+changes%7))
				time.Sleep(500 * time.Millisecond)
			}
			synctest.Wait()
			return runtime.NumGoroutine(), memory()
		}
		goroutines, heap := churn(5 * time.Minute) // by now all is kept that may be
		after, grown := churn(*churning)
		grown -= heap
		events, kept := h.Kept()
		t.Logf("%d changes, %d events read, %d kept in %d KiB, %d deaf clients dropped, %d heartbeats, heap %d KiB and %d more",
			changes, seen.Load(), events, kept>>10, dropped.Load(), beats.Load(), heap>>10, grown>>10)
		require.GreaterOrEqual(t, seen.Load(), int64(changes), "the reader has seen each change")
		require.GreaterOrEqual(t, dropped.Load(), int64(*churning/(17*time.Second)))
		require.GreaterOrEqual(t, beats.Load(), int64(6**churning/libcluster.DefaultTTL))
		require.Equal(t, libcluster.PhaseActive, a.Phase())
		require.LessOrEqual(t, events, 256)
		require.LessOrEqual(t, kept, 5<<20)
		require.LessOrEqual(t, after, goroutines+5)
		require.Less(t, grown, int64(4<<20))
	})
}
