package onetcd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
)

// authority issues certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return authority{t, cert, key}
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue makes a certificate that is valid for so long, for an address or a name.
func (a authority) issue(life time.Duration, name string) (cert, key []byte) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	require.NoError(a.t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(a.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func pairOf(t testing.TB, cert, key []byte) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	return pair
}

// gate is TLS before a real etcd, which can be given other certificates and another time.
type gate struct {
	t        testing.TB
	endpoint string
	clients  authority // whose certificates are let in
	refused  chan error
	entered  chan *x509.Certificate // the client's

	mu      sync.Mutex // guards what follows
	server  tls.Certificate
	ahead   time.Duration // how far its clock is ahead
	closed  bool          // to everybody
	conns   map[net.Conn]bool
	backend string
}

func newGate(t testing.TB) *gate {
	t.Helper()
	backend, err := url.Parse(etcdURL(t))
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &gate{
		t: t, endpoint: "https://" + listener.Addr().String(), clients: newAuthority(t), backend: backend.Host,
		refused: make(chan error, 1), entered: make(chan *x509.Certificate, 1), conns: map[net.Conn]bool{},
	}
	g.present(g.clients, "127.0.0.1")
	var serving sync.WaitGroup
	t.Cleanup(func() { listener.Close(); g.cut(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { g.serve(conn) })
		}
	})
	return g
}

func (g *gate) serve(conn net.Conn) {
	g.mu.Lock()
	config := &tls.Config{
		Certificates: []tls.Certificate{g.server}, ClientCAs: g.clients.pool(), NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert,
	}
	ahead := g.ahead
	config.Time = func() time.Time { return time.Now().Add(ahead) }
	if g.closed {
		config.ClientCAs = x509.NewCertPool()
	}
	g.conns[conn] = true
	g.mu.Unlock()
	defer func() {
		conn.Close()
		g.mu.Lock()
		delete(g.conns, conn)
		g.mu.Unlock()
	}()
	secured := tls.Server(conn, config)
	if err := secured.Handshake(); err != nil {
		select {
		case g.refused <- err:
		default:
		}
		return
	}
	plain, err := net.Dial("tcp", g.backend)
	if err != nil {
		return
	}
	defer plain.Close()
	select {
	case g.entered <- secured.ConnectionState().PeerCertificates[0]:
	default:
	}
	var copying sync.WaitGroup
	copying.Go(func() { io.Copy(plain, secured); plain.Close() })
	io.Copy(secured, plain)
	conn.Close()
	copying.Wait()
}

// present has the gate show a certificate from an authority, for a name.
func (g *gate) present(from authority, name string) {
	g.t.Helper()
	cert, key := from.issue(24*time.Hour, name)
	server := pairOf(g.t, cert, key)
	g.change(func() { g.server = server })
}

// change changes the gate; what refuses and lets return came later.
func (g *gate) change(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.refused:
	default:
	}
	select {
	case <-g.entered:
	default:
	}
	f()
}

// cut ends all connections.
func (g *gate) cut() {
	g.change(func() {
		for conn := range g.conns {
			conn.Close()
		}
	})
}

// refuses waits for a client to be refused, and returns why.
func (g *gate) refuses() error { return seen(g.t, g.refused) }

// lets waits for a client to be let in, and returns its certificate.
func (g *gate) lets() *x509.Certificate { return seen(g.t, g.entered) }

func seen[T any](t testing.TB, c chan T) (what T) {
	t.Helper()
	select {
	case what = <-c:
	case <-time.After(patience):
		require.FailNow(t, "no client has come, or been refused")
	}
	return what
}

// files are a client's, at paths that stay.
type files struct {
	t             testing.TB
	ca, cert, key string
}

// newFiles has what this gate accepts, for so long.
func (g *gate) newFiles(life time.Duration) files {
	g.t.Helper()
	dir := g.t.TempDir()
	f := files{g.t, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	f.write(f.ca, g.clients.pem())
	cert, key := g.clients.issue(life, "127.0.0.1")
	f.write(f.cert, cert)
	f.write(f.key, key)
	return f
}

// write replaces a file as a whole.
func (f files) write(path string, content []byte) {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(path+".new", content, 0o600))
	require.NoError(f.t, os.Rename(path+".new", path))
}

func (f files) config(g *gate) libcluster.EtcdConfig {
	return libcluster.EtcdConfig{Endpoints: []string{g.endpoint}, CACert: f.ca, Cert: f.cert, CertKey: f.key}
}

// serveTLS puts TLS before the shared etcd, which lets in the certificate in certFile.
func serveTLS(t *testing.T) (endpoint, caFile, certFile, keyFile string) {
	t.Helper()
	g := newGate(t)
	f := g.newFiles(time.Hour)
	return g.endpoint, f.ca, f.cert, f.key
}

func TestTLSWithAClientCertificate(t *testing.T) {
	endpoint, ca, cert, certKey := serveTLS(t)
	i := start(t, libcluster.Config{Key: key(t), Registry: libcluster.EtcdConfig{
		Endpoints: []string{endpoint}, CACert: ca, Cert: cert, CertKey: certKey,
	}})
	i.Becomes(0, 1)
	i.Leaves()

	core, logs := observer.New(zap.WarnLevel)
	without := prepare(t, libcluster.Config{Key: key(t), Logger: zap.New(core), Registry: libcluster.EtcdConfig{
		Endpoints: []string{endpoint}, CACert: ca, RequestTimeout: 100 * time.Millisecond,
	}})
	ctx, cancel := context.WithCancel(t.Context())
	joined := make(chan error, 1)
	go func() { joined <- without.Join(ctx) }()
	require.Eventually(t, func() bool { return logs.Len() > 0 }, patience, time.Millisecond)
	cancel()
	require.ErrorContains(t, <-joined, endpoint)
}

// created returns the revision at which an instance's record was made.
func created(t *testing.T, cluster string) int64 {
	t.Helper()
	got, err := etcdClient(t).Get(t.Context(), "/"+cluster+"/production/node")
	require.NoError(t, err)
	require.Len(t, got.Kvs, 1)
	return got.Kvs[0].CreateRevision
}

func TestRenewedClientCertificateIsTakenWithoutRejoining(t *testing.T) {
	for name, outage := range map[string]libcluster.Outage{
		"fence": libcluster.FenceOnOutage, "keep": libcluster.KeepOnOutage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t)
			f := g.newFiles(time.Hour)
			cluster := key(t)
			i := start(t, libcluster.Config{Key: cluster, ID: "node", Registry: f.config(g), Outage: outage})
			i.Becomes(0, 1)
			before := created(t, cluster)

			g.change(func() { g.ahead = 2 * time.Hour }) // the certificate has expired
			g.cut()
			require.ErrorContains(t, g.refuses(), "certificate has expired")
			cert, private := g.clients.issue(24*time.Hour, "127.0.0.1")
			f.write(f.key, private)
			f.write(f.cert, cert)
			require.Equal(t, pairOf(t, cert, private).Leaf.SerialNumber, g.lets().SerialNumber)

			require.NoError(t, i.SetWorkers(t.Context(), 2))
			i.Becomes(0, 2)
			require.Equal(t, before, created(t, cluster))
			for _, s := range i.Told() {
				require.True(t, s.Active(), "it has been fenced")
			}
		})
	}
}

func TestRenewedRootsAreTakenAndTheServersNameIsStillVerified(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	f := g.newFiles(time.Hour)
	i := start(t, libcluster.Config{Key: key(t), Registry: f.config(g), Outage: libcluster.KeepOnOutage})
	i.Becomes(0, 1)

	other := newAuthority(t)
	g.present(other, "127.0.0.1")
	g.cut()
	require.ErrorContains(t, g.refuses(), "bad certificate", "the client believes a server that nobody vouches for")
	f.write(f.ca, other.pem())
	g.lets()

	g.present(other, "127.0.0.2")
	g.cut()
	require.ErrorContains(t, g.refuses(), "bad certificate", "the client believes a server of another name")
	g.present(g.clients, "127.0.0.1")
	require.ErrorContains(t, g.refuses(), "bad certificate", "the client goes on believing an authority that was taken away")
	g.present(other, "127.0.0.1")
	g.lets()
	require.NoError(t, i.SetWorkers(t.Context(), 2))
	i.Becomes(0, 2)
}

// A program that renews certificates writes one file after the other, perhaps each in parts.
func TestFilesThatAreBeingWrittenAreNotTaken(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	f := g.newFiles(time.Hour)
	old, err := os.ReadFile(f.cert)
	require.NoError(t, err)
	block, _ := pem.Decode(old)
	before, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	core, logs := observer.New(zap.WarnLevel)
	config := f.config(g)
	config.RequestTimeout = 300 * time.Millisecond // and it tries anew
	i := prepare(t, libcluster.Config{Key: key(t), Registry: config, Logger: zap.New(core)})

	// While it tries to join.
	g.change(func() { g.closed = true })
	joined := make(chan error, 1)
	go func() { joined <- i.Join(t.Context()) }()
	require.Error(t, g.refuses())
	cert, private := g.clients.issue(time.Hour, "127.0.0.1")
	require.NoError(t, os.WriteFile(f.cert, cert, 0o600))
	require.NoError(t, os.WriteFile(f.ca, nil, 0o600))
	for range 10 { // in several attempts
		require.Error(t, g.refuses())
	}
	g.change(func() { g.closed = false })
	require.Equal(t, before.SerialNumber, g.lets().SerialNumber)
	require.NoError(t, <-joined)
	i.Becomes(0, 1)

	// While it reconnects. In the file another certificate follows, which has not come yet.
	require.NoError(t, os.WriteFile(f.key, private, 0o600))
	require.NoError(t, os.WriteFile(f.cert, append(cert, old[:len(old)/2]...), 0o600))
	require.NoError(t, os.WriteFile(f.ca, append(newAuthority(t).pem(), g.clients.pem()[:100]...), 0o600))
	g.cut()
	require.Equal(t, before.SerialNumber, g.lets().SerialNumber)

	require.NoError(t, os.WriteFile(f.cert, append(cert, old...), 0o600))
	g.cut()
	require.Equal(t, pairOf(t, cert, private).Leaf.SerialNumber, g.lets().SerialNumber)

	require.Eventually(t, func() bool {
		return logs.FilterMessage("cannot read renewed certificates, going on with those from before").Len() > 0
	}, patience, time.Millisecond)
	for _, line := range logs.All() {
		for _, field := range line.Context {
			require.NotContains(t, field.String, "PRIVATE KEY")
		}
	}
}

func TestTLSConfigurationOfTheCallersIsUsed(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	g.present(g.clients, "etcd.test")
	cert, private := g.clients.issue(time.Hour, "127.0.0.1")
	own := &tls.Config{
		RootCAs: g.clients.pool(), Certificates: []tls.Certificate{pairOf(t, cert, private)},
		ServerName: "etcd.test",
	}
	i := start(t, libcluster.Config{Key: key(t), Registry: libcluster.EtcdConfig{Endpoints: []string{g.endpoint}, TLS: own}})
	i.Becomes(0, 1)

	nameless := own.Clone()
	nameless.ServerName = ""
	text := whyNotJoined(t, key(t), libcluster.EtcdConfig{Endpoints: []string{g.endpoint}, TLS: nameless})
	require.Contains(t, text, "doesn't contain any IP SANs")
}
