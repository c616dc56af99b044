package peers

import (
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A host that does not run yet, or a firewall, may swallow what is sent to it. The kernel dials with
// longer and longer pauses then, and gives up after two minutes: a peer that has come up in between
// would be found by the next pause only.
func TestDialThatIsSwallowedIsGivenUpBeforeTheKernelDoes(t *testing.T) {
	t.Parallel()
	address := swallow(t)
	p, err := New(Config{ID: "x", Peers: []Peer{{Address: address}}})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url(address)+wordPath, nil)
	require.NoError(t, err)
	answer, err := p.transport().RoundTrip(request)
	if err == nil {
		answer.Body.Close()
	}
	var late net.Error
	require.ErrorAs(t, err, &late)
	require.True(t, late.Timeout(), "%v", err)
	require.NotErrorIs(t, err, syscall.ETIMEDOUT, "the kernel has given up")
}

// swallow returns an address that takes no connection: there is a listener, whose queue is full.
func swallow(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	ip := [4]byte{127, 0, 0, 1}
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: ip}))
	require.NoError(t, syscall.Listen(fd, 0))
	bound, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	address := (&net.TCPAddr{IP: ip[:], Port: bound.(*syscall.SockaddrInet4).Port}).String()
	for {
		conn, err := net.DialTimeout("tcp4", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}
