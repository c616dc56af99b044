package onetcd_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
)

// A name may have an address behind which a firewall, or a machine that is gone, swallows
// what is sent to it.
func TestNameWhoseFirstAddressSwallowsEverythingIsJoinedByItsSecond(t *testing.T) {
	u, err := url.Parse(etcdURL(t))
	require.NoError(t, err)
	port, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	swallow(t, [4]byte{127, 0, 0, 2}, port)
	resolver := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = resolver })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go answer(theirs, []byte{127, 0, 0, 2}, []byte{127, 0, 0, 1})
		return ours, nil
	}}
	start(t, libcluster.Config{Key: key(t), Registry: libcluster.Etcd("http://etcd.test.:" + u.Port())}).Becomes(0, 1)
}

// Nobody need wait until an attempt to connect has failed so as to learn what it waits for.
func TestAddressThatSwallowsEverythingIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.3:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	swallow(t, [4]byte{127, 0, 0, 3}, port)
	etcd := libcluster.EtcdConfig{Endpoints: []string{fmt.Sprintf("http://127.0.0.3:%d", port)}, DialTimeout: time.Hour, RequestTimeout: time.Hour}
	const trouble = ": nothing has answered the attempt to connect (key /mailer/"
	c, err := libcluster.New(libcluster.Config{Key: "mailer", Logger: zap.NewNop(), Registry: etcd})
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	joined := make(chan error, 1)
	go func() { joined <- c.Join(ctx) }()
	require.Eventually(t, func() bool {
		return strings.Contains(c.Err().Error(), "; last: "+etcd.String()+": not connected yet"+trouble)
	}, patience, patience/1000)
	require.ErrorContains(t, c.Err(), "a firewall, or a machine that is not there, may swallow what is sent; check EtcdConfig.Endpoints")
	tired := errors.New("tired")
	cancel(tired)
	err = <-joined
	require.ErrorIs(t, err, tired)
	require.ErrorContains(t, err, trouble)

	short, cancelShort := context.WithTimeout(t.Context(), time.Second)
	defer cancelShort()
	_, err = etcd.Clusters(short, "mailer")
	require.ErrorContains(t, err, etcd.String()+": no answer in time: context deadline exceeded"+trouble)
}

// swallow has an address take no connection: it listens, and its queue is full.
func swallow(t *testing.T, ip [4]byte, port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: ip}))
	require.NoError(t, syscall.Listen(fd, 0))
	for {
		conn, err := net.DialTimeout("tcp4", net.JoinHostPort(net.IP(ip[:]).String(), strconv.Itoa(port)), 200*time.Millisecond)
		if err != nil {
			return
		}
		t.Cleanup(func() { conn.Close() })
	}
}

// answer is a name server whose every name has these IPv4 addresses, in this order.
func answer(conn net.Conn, addresses ...[]byte) {
	defer conn.Close()
	for {
		length := make([]byte, 2)
		if _, err := io.ReadFull(conn, length); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		question := 12 // after the header: the name, then type and class
		for query[question] != 0 {
			question += 1 + int(query[question])
		}
		question += 5
		isA := query[question-3] == 1
		message := append(query[:2:2], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
		message = append(message, query[12:question]...)
		for _, address := range addresses {
			if isA {
				message[7]++ // answers
				message = append(message, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				message = append(message, address...)
			}
		}
		if _, err := conn.Write(binary.BigEndian.AppendUint16(nil, uint16(len(message)))); err != nil {
			return
		}
		if _, err := conn.Write(message); err != nil {
			return
		}
	}
}
