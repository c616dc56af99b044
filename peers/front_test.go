package peers

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/test/bufconn"
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

func TestConnectionThatAsksNoMoreGivesItsPlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(pipeSize)
		server := newHTTP(http.NotFoundHandler())
		go func() { _ = server.Serve(l) }() // it is closed
		defer server.Close()
		conn, err := l.Dial()
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		in := bufio.NewReader(conn)
		answer, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, answer.Body)
		require.NoError(t, err)
		asked := time.Now()
		_, err = in.ReadByte()
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, longestIdle, time.Since(asked))
	})
}
