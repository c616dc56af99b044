package peers

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPortHoldsSoManyConnections(t *testing.T) {
	f, err := openFront(t.Context(), "127.0.0.1:0", nil, newBoard(word{}))
	require.NoError(t, err)
	defer f.close()
	asks := func() net.Conn {
		conn, err := net.Dial("tcp", f.listener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() }) // the first is closed before
		_, err = io.WriteString(conn, "GET "+pingPath+" HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		return conn
	}
	hears := func(conn net.Conn, patience time.Duration) error {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			err = answer.Body.Close()
		}
		return err
	}
	var first net.Conn
	for range mostConns {
		conn := asks()
		require.NoError(t, hears(conn, patience))
		if first == nil {
			first = conn
		}
	}
	more := asks()
	require.Error(t, hears(more, 200*time.Millisecond))
	require.NoError(t, first.Close())
	require.NoError(t, hears(more, patience))
}
