//go:build databases

package pgnotify_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// asking notes that something has been asked.
type asking struct {
	io.Writer
	asked *atomic.Bool
}

func (a asking) Write(p []byte) (int, error) {
	a.asked.Store(true)
	return a.Writer.Write(p)
}

// muffled connects to PostgreSQL as PgBouncer does in transaction mode: what comes while nothing is
// asked is lost, as notifications of others are. One that a statement sends to itself comes before its end.
func muffled(ctx context.Context, network, address string) (net.Conn, error) {
	server, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	asked := new(atomic.Bool)
	go func() {
		_, _ = io.Copy(asking{server, asked}, far) // its end is the other's, too
		server.Close()
	}()
	go func() {
		defer far.Close()
		for {
			head := make([]byte, 5)
			if _, err := io.ReadFull(server, head); err != nil {
				return
			}
			body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
			if _, err := io.ReadFull(server, body); err != nil {
				return
			}
			const notification, ready = 'A', 'Z'
			if head[0] == notification && !asked.Load() {
				continue
			}
			if head[0] == ready {
				asked.Store(false)
			}
			if _, err := far.Write(append(head, body...)); err != nil {
				return
			}
		}
	}()
	return near, nil
}

// needs returns all packages that one needs, a line each.
func needs(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", path).Output()
	require.NoError(t, err)
	return string(out)
}
