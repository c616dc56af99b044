//go:build databases

package pgnotify_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// muffled connects to PostgreSQL so that all comes through but notifications.
func muffled(ctx context.Context, network, address string) (net.Conn, error) {
	server, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	go func() {
		_, _ = io.Copy(server, far) // its end is the other's, too
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
			const notification = 'A'
			if head[0] == notification {
				continue
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
