package gossip

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// watching has a node watch another one at a listener, and nothing else. It counts the dials.
func watching(t *testing.T) (n *node, at net.Listener, dials *atomic.Int64) {
	dials = new(atomic.Int64)
	cfg := Config{Bind: "127.0.0.1:0"}.In(World{Listen: func(at netip.AddrPort) (Port, error) {
		p, err := openSockets(at)
		return dialCounter{p, dials}, err
	}})
	transport, err := listen(t.Context(), cfg)
	require.NoError(t, err)
	at, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n = &node{
		cfg: cfg, name: "1", log: zap.NewNop(), transport: transport,
		records: newRecords(""), changed: make(chan struct{}), asked: map[uint64]*question{},
	}
	n.ctx, n.cancel = context.WithCancel(t.Context())
	n.records.put(published("2", "a"), time.Now())
	n.spawn(func() { n.watchOne(n.ctx, "2", at.Addr().String()) })
	t.Cleanup(func() {
		_ = at.Close()
		n.cancel()
		require.NoError(t, transport.Shutdown())
		n.started.Wait()
	})
	return n, at, dials
}

type dialCounter struct {
	port
	dials *atomic.Int64
}

func (c dialCounter) Dial(ctx context.Context, to string, timeout time.Duration) (net.Conn, error) {
	c.dials.Add(1)
	return c.port.Dial(ctx, to, timeout)
}

func (n *node) accused() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.records.entries["2"].Gone
}

// breakOne accepts a connection and closes it.
func breakOne(t *testing.T, at net.Listener) {
	conn, err := at.Accept()
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

func TestEndOfAProcessIsNoticedThoughOneMoreConnectionSucceeds(t *testing.T) {
	t.Parallel()
	n, at, _ := watching(t)
	breakOne(t, at)
	breakOne(t, at)
	require.False(t, n.accused(), "its port is open")
	require.NoError(t, at.Close())
	require.Eventually(t, n.accused, 30*time.Second, time.Millisecond)
}

func TestOneWhosePortIsRefusedAgainIsAccusedAgainOnlyOnceItWasOpen(t *testing.T) {
	t.Parallel()
	n, at, dials := watching(t)
	breakOne(t, at)
	address := at.Addr().String()
	require.NoError(t, at.Close())
	require.Eventually(t, n.accused, 30*time.Second, time.Millisecond)

	n.mu.Lock()
	contradicts := published("2", "a")
	contradicts.Version = n.records.entries["2"].Version + 1
	require.True(t, n.records.put(contradicts, time.Now()))
	n.mu.Unlock()
	more := dials.Load() + 2*enoughRefusals + 1 // the last one may not have ended
	require.Eventually(t, func() bool { return dials.Load() >= more }, 30*time.Second, time.Millisecond)
	require.False(t, n.accused())

	at, err := net.Listen("tcp", address)
	require.NoError(t, err)
	breakOne(t, at)
	require.NoError(t, at.Close())
	require.Eventually(t, n.accused, 30*time.Second, time.Millisecond)
}

func TestAMessageIsSentAgainMoreAndMoreSlowlyUpToALimit(t *testing.T) {
	var pauses []time.Duration
	for at, now := (turn{}), began; len(pauses) < 7; now = at.due {
		at = at.next(now, tellAgain)
		pauses = append(pauses, at.due.Sub(now))
	}
	const ms = time.Millisecond
	require.Equal(t, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 2000 * ms, 2000 * ms}, pauses)
}
