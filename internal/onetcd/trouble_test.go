package onetcd_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
)

// whyNotJoined returns the first error of a join that cannot succeed.
func whyNotJoined(t *testing.T, cluster string, e libcluster.EtcdConfig) string {
	t.Helper()
	core, logs := observer.New(zap.WarnLevel)
	c, err := libcluster.New(libcluster.Config{Key: cluster, Registry: e, Logger: zap.New(core)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	joined := make(chan error, 1)
	go func() { joined <- c.Join(ctx) }()
	require.Eventually(t, func() bool { return logs.Len() > 0 || len(joined) > 0 }, patience, patience/1000)
	if logs.Len() > 0 {
		require.ErrorIs(t, c.Err(), libcluster.ErrLeft)
		require.ErrorContains(t, c.Err(), "; last: etcd at ", "it can be asked for")
	}
	cancel()
	return (<-joined).Error()
}

// An attempt to join waits for a connection, which may come. Who cannot wait for its end is told.
func TestTroubleIsToldBeforeTheAttemptHasEnded(t *testing.T) {
	t.Parallel()
	c, err := libcluster.New(libcluster.Config{
		Key: "mailer", Logger: zap.NewNop(),
		Registry: libcluster.EtcdConfig{Endpoints: []string{"http://127.0.0.1:1"}, RequestTimeout: time.Hour},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	joined := make(chan error, 1)
	go func() { joined <- c.Join(ctx) }()
	const trouble = "; last: etcd at http://127.0.0.1:1: not connected yet: connection error: "
	require.Eventually(t, func() bool { return strings.Contains(c.Err().Error(), trouble) }, patience, patience/1000)
	require.ErrorContains(t, c.Err(), "nobody listens there; check EtcdConfig.Endpoints")
	tired := errors.New("tired")
	cancel(tired)
	err = <-joined
	require.ErrorIs(t, err, tired)
	require.ErrorContains(t, err, "connection refused")
}

// hangUp closes each connection once the client has said something.
func hangUp(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Read(make([]byte, 4096))
		c.Close()
	}
}

func TestEtcdThatCannotBeUsedIsExplained(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	endpoint, ca, expired := g.endpoint, g.newFiles(time.Hour).ca, g.newFiles(-time.Minute)
	strange := g.newFiles(time.Hour)
	cert, private := newAuthority(t).issue(time.Hour, "127.0.0.1")
	strange.write(strange.cert, cert)
	strange.write(strange.key, private)
	secure := strings.TrimPrefix(endpoint, "https://")
	plain := strings.TrimPrefix(strings.Split(etcdURL(t), ",")[0], "http://")
	web := &http.Server{Handler: http.NotFoundHandler()}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { _ = web.Serve(listener) })
	t.Cleanup(func() { web.Close(); serving.Wait() })
	hangsUp, err := net.Listen("tcp", "127.0.0.1:0") // on TLS, as an etcd of its own does that has none
	require.NoError(t, err)
	serving.Go(func() { hangUp(hangsUp) })
	t.Cleanup(func() { hangsUp.Close() })
	_, port, err := net.SplitHostPort(secure)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		etcd libcluster.EtcdConfig
		says []string
	}{
		"wrong port":   {libcluster.Etcd("http://127.0.0.1:1"), []string{"connection refused", "nobody listens there; check EtcdConfig.Endpoints"}},
		"a web server": {libcluster.Etcd("http://" + listener.Addr().String()), []string{"a web server, and no etcd; check the port in EtcdConfig.Endpoints"}},
		"unknown CA":   {libcluster.Etcd("https://" + secure), []string{"unknown authority", "set EtcdConfig.CACert"}},
		"another name": {
			libcluster.EtcdConfig{Endpoints: []string{"https://localhost:" + port}, CACert: ca},
			[]string{"localhost", "the server's certificate is for other names"},
		},
		"http against https": {libcluster.Etcd("http://" + secure), []string{"use https:// in EtcdConfig.Endpoints"}},
		"https against http": {libcluster.Etcd("https://" + plain), []string{"no TLS there; use http:// in EtcdConfig.Endpoints"}},
		"https against one that hangs up": {
			libcluster.Etcd("https://" + hangsUp.Addr().String()),
			[]string{"handshake failed: EOF", "no TLS there; use http:// in EtcdConfig.Endpoints"},
		},
		"expired client certificate": {expired.config(g), []string{"the server refuses this client's certificate"}},
		"strange client certificate": {strange.config(g), []string{"the server refuses this client's certificate"}},
		"no client certificate":      {libcluster.EtcdConfig{Endpoints: []string{endpoint}, CACert: ca}, []string{"EtcdConfig.Cert and CertKey"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := whyNotJoined(t, "mailer", c.etcd)
			for _, part := range append(c.says, "key /mailer/production/", "without a user") {
				require.Contains(t, text, part)
			}
		})
	}
}
