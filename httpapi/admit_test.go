package httpapi_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/httpapi"
	"github.com/libcluster/libcluster/libclustertest"
)

const token = "correct horse battery staple"

func withToken(text string) httpapi.Option { return httpapi.WithToken(libcluster.NewSecret(text)) }

func TestWithATokenEverythingNeedsIt(t *testing.T) {
	t.Parallel()
	a := join(t, libclustertest.New(), "a")
	base := show(t, a, withToken(token), withToken("the one that comes after it"))
	paths := []string{"/", "/assets/page.js", "/v1/state", "/v1/members", "/v1/coverage", "/v1/owner?key=a", "/v1/events", "/v1/schema.json", "/nothing"}
	for _, path := range paths {
		for _, header := range [][]string{
			nil,
			{"Authorization", "Bearer"},
			{"Authorization", "Bearer "},
			{"Authorization", "Bearer correct horse battery stapl"},
			{"Authorization", token},
			{"Authorization", "Basic !!!"},
			{"Cookie", "token=" + token},
		} {
			a := get(t, base+path, header...)
			require.Equal(t, http.StatusUnauthorized, a.StatusCode, "%s %v", path, header)
			require.Equal(t, "unauthorized", a.is(t, "error")["error"].(map[string]any)["code"])
			require.Len(t, a.Header.Values("WWW-Authenticate"), 2, "a browser asks, and a program is told")
		}
		require.Equal(t, http.StatusUnauthorized, get(t, base+path+"?token="+token[:7]).StatusCode)
		require.Equal(t, http.StatusUnauthorized, ask(t, http.MethodPost, base+path).StatusCode, "not even that there is no POST")
	}
	for _, sent := range []string{"Bearer " + token, "bearer " + token, "Bearer the one that comes after it"} {
		require.Equal(t, http.StatusOK, get(t, base+"/v1/state", "Authorization", sent).StatusCode)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/", nil)
	require.NoError(t, err)
	r.SetBasicAuth("anybody", token)
	page, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, page.Body.Close())
	require.Equal(t, http.StatusOK, page.StatusCode, "as the password that a browser has asked for")

	// Probes have no token, and learn no more than their status.
	require.Equal(t, map[string]any{"status": "ok"}, get(t, base+"/healthz").is(t, "probe"))
	require.Equal(t, map[string]any{"status": "ready"}, get(t, base+"/readyz").is(t, "probe"))
	leave(t, a)
	require.Equal(t, map[string]any{"status": "not ready"}, get(t, base+"/readyz").is(t, "probe"))
	require.NotEmpty(t, get(t, base+"/readyz", "Authorization", "Bearer "+token).is(t, "probe")["why"])
}

func TestTokenIsNotPrinted(t *testing.T) {
	t.Parallel()
	h := handler(t, instance(t, libclustertest.New(), "a"), withToken(token))
	h.Close() // printing reads all fields
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(verb, h), token)
		require.NotContains(t, fmt.Sprintf(verb, *h), token)
	}
	_, err := httpapi.New(instance(t, libclustertest.New(), "a"), withToken("too short"))
	require.EqualError(t, err, "httpapi: WithToken: the token has 9 bytes: must be 16 at least")
	_, err = httpapi.New(instance(t, libclustertest.New(), "a"), httpapi.WithTLS(&tls.Config{}))
	require.ErrorContains(t, err, "has no certificate")
}

func TestOnlyLoopbackIsOpenToAll(t *testing.T) {
	t.Parallel()
	a := instance(t, libclustertest.New(), "a")
	open := handler(t, a)
	for _, address := range []string{":0", "127.0.0.1:0", "localhost:0"} {
		l, err := open.Listen(address)
		require.NoError(t, err, address)
		require.True(t, l.Addr().(*net.TCPAddr).IP.IsLoopback(), address)
		require.NoError(t, l.Close())
	}
	certificate, pool := certificates(t)
	for name, option := range map[string]httpapi.Option{
		"no guard":                   func(*httpapi.Handler) error { return nil },
		"TLS only":                   httpapi.WithTLS(&tls.Config{Certificates: []tls.Certificate{certificate}}),
		"certificates not verified":  httpapi.WithTLS(&tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert}),
		"certificates not necessary": httpapi.WithTLS(&tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}),
		"certificates of anybody":    httpapi.WithTLS(&tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert}),
	} {
		_, err := handler(t, a, option).Listen("0.0.0.0:0")
		require.ErrorContains(t, err, `address "0.0.0.0:0": other machines can reach it: use 127.0.0.1, or WithToken`, name)
	}
	for name, option := range map[string]httpapi.Option{
		"a token":             withToken(token),
		"client certificates": httpapi.WithTLS(&tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}),
	} {
		l, err := handler(t, a, option).Listen("0.0.0.0:0")
		require.NoError(t, err, name)
		require.NoError(t, l.Close())
	}
	_, err := open.Listen("7070")
	require.ErrorContains(t, err, `address "7070": must be HOST:PORT or :PORT`)
	require.ErrorContains(t, open.ListenAndServe(t.Context(), "192.0.2.1:0"), "httpapi: ")
}

// running serves until the test ends, and returns the address.
func running(t *testing.T, h *httpapi.Handler) string {
	t.Helper()
	l, err := h.Listen(":0")
	require.NoError(t, err)
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- h.Serve(ctx, l) }()
	t.Cleanup(func() {
		end()
		require.NoError(t, <-served)
	})
	return l.Addr().String()
}

// A site elsewhere whose name has come to mean 127.0.0.1 could otherwise read the page in the
// browsers of the site's visitors.
func TestLoopbackAnswersToItsOwnNameOnly(t *testing.T) {
	t.Parallel()
	a := instance(t, libclustertest.New(), "a")
	address := running(t, handler(t, a))
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	as := func(address, host string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v1/state", nil)
		require.NoError(t, err)
		r.Host = host
		a, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, a.Body.Close())
		return a.StatusCode
	}
	for _, host := range []string{"127.0.0.1:" + port, "127.0.0.1", "localhost:" + port, "LOCALHOST", "[::1]:" + port} {
		require.Equal(t, http.StatusOK, as(address, host), host)
	}
	for _, host := range []string{"evil.example:" + port, "evil.example", "localhost.evil.example", "127.0.0.1.evil.example"} {
		require.Equal(t, http.StatusForbidden, as(address, host), host)
	}
	guarded := running(t, handler(t, a, withToken(token)))
	require.Equal(t, http.StatusUnauthorized, as(guarded, "cluster.example"), "a token is known to no other site")
	http.DefaultClient.CloseIdleConnections()
}

func TestServeEndsStreamsWithItsContext(t *testing.T) {
	t.Parallel()
	h := handler(t, join(t, libclustertest.New(), "a"))
	l, err := h.Listen(":0")
	require.NoError(t, err)
	ctx, end := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- h.Serve(ctx, l) }()
	events := listen(t, "http://"+l.Addr().String()+"/v1/events")
	events.next(t)
	events.next(t)
	end()
	_, more := events.read(t)
	require.False(t, more)
	require.Equal(t, io.EOF, events.err, "and not because the connection was closed")
	require.NoError(t, <-served)
	http.DefaultClient.CloseIdleConnections()
}

func TestClientCertificatesAreVerified(t *testing.T) {
	t.Parallel()
	server, pool := certificates(t)
	client, clients := certificates(t)
	address := running(t, handler(t, join(t, libclustertest.New(), "a"), httpapi.WithTLS(&tls.Config{
		Certificates: []tls.Certificate{server}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
	})))
	as := func(certificates ...tls.Certificate) *http.Client {
		transport := &http.Transport{
			ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certificates, ServerName: "localhost"},
		}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, Timeout: watchdog}
	}
	url := "https://" + address + "/v1/events"
	_, err := as().Get(url)
	require.Error(t, err)
	_, err = as(server).Get(url)
	require.Error(t, err, "a certificate of somebody else")
	a, err := as(client).Get(url)
	require.NoError(t, err)
	require.Equal(t, 2, a.ProtoMajor)
	events := &stream{body: a.Body, lines: bufio.NewReader(a.Body)}
	require.Equal(t, "history", events.next(t).name)
	require.Equal(t, "view", events.next(t).name)
	require.NoError(t, a.Body.Close())
}

// certificates returns a certificate for localhost that has signed itself, and the pool that trusts it.
func certificates(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
