package libcluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestEndpointsAreURLsAloneOrBetweenCommas(t *testing.T) {
	for want, endpoints := range map[string][]string{
		"etcd at http://127.0.0.1:2379":                   {"http://127.0.0.1:2379"},
		"etcd at http://a:1,http://b:2,http://c:3":        {"http://a:1, http://b:2", " http://c:3 "},
		"etcd at https://etcd.example:2379":               {"https://etcd.example/"},
		"etcd at http://a:2379":                           {"HTTP://a:"},
		"etcd at http://[::1]:2379":                       {"http://[::1]"},
		"etcd at https://[2001:db8::1]:443,https://b:443": {"https://[2001:db8::1]:443,https://b:443"},
	} {
		registry := Etcd(endpoints...)
		require.NoError(t, entering(registry))
		require.Equal(t, want, registry.String())
	}
}

func TestWhatIsNoEndpointIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		endpoints []string
		says      []string
	}{
		"none":                  {nil, []string{"no endpoints", "http://127.0.0.1:2379"}},
		"empty":                 {[]string{""}, []string{`endpoint ""`}},
		"ends with a comma":     {[]string{"http://a:1,"}, []string{`endpoint ""`}},
		"no scheme":             {[]string{"localhost:2379"}, []string{`"localhost:2379"`, "http or https", "such as http://localhost:2379"}},
		"IPv6 without a scheme": {[]string{"[::1]:2379"}, []string{`"[::1]:2379"`, "such as http://[::1]:2379"}},
		"an IPv6 zone":          {[]string{"http://[fe80::1%25eth0]:2379"}, []string{`fe80::1%25eth0`, "IPv6 zone"}},
		"an address alone":      {[]string{"127.0.0.1:2379"}, []string{`"127.0.0.1:2379"`, "no scheme", "such as http://"}},
		"another scheme":        {[]string{"ftp://a:1"}, []string{`"ftp://a:1"`, "http or https"}},
		"a socket":              {[]string{"unix:///run/etcd"}, []string{"http or https"}},
		"no host":               {[]string{"http://:2379"}, []string{`"http://:2379"`, "no host"}},
		"a path":                {[]string{"http://a:1/v3"}, []string{`"http://a:1/v3"`, "scheme, host and port only"}},
		"a query":               {[]string{"http://a:1?x=1"}, []string{"scheme, host and port"}},
		"a fragment":            {[]string{"http://a:1#x"}, []string{"scheme, host and port"}},
		"a port that is a word": {[]string{"http://a:etcd"}, []string{"not a URL such as"}},
		"port 0":                {[]string{"http://a:0"}, []string{`"http://a:0"`, "1 to 65535"}},
		"a port too high":       {[]string{"http://a:65536"}, []string{`"http://a:65536"`, "1 to 65535"}},
		"a user":                {[]string{"http://root:secret@a:1"}, []string{"user and password", "apart"}},
		"http beside https":     {[]string{"http://a:1,https://b:1"}, []string{"all must be http, or all https"}},
		"the second is broken":  {[]string{"http://a:1", "b:1"}, []string{`"b:1"`}},
	} {
		t.Run(name, func(t *testing.T) {
			registry := Etcd(c.endpoints...)
			err := entering(registry)
			for _, part := range c.says {
				require.ErrorContains(t, err, part)
			}
			require.Equal(t, "etcd", registry.String())
		})
	}
}

func TestFieldsThatDoNotGoTogetherAreRefused(t *testing.T) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://127.0.0.1:1"}, Logger: zap.NewNop()})
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	const both, clientAlone, forHTTPS = "give both or neither", "Client is given", "are for https endpoints"
	plain, secure := []string{"http://a:1"}, []string{"https://a:1"}

	for name, c := range map[string]struct {
		config EtcdConfig
		says   string
	}{
		"user without password":       {EtcdConfig{Endpoints: plain, Username: "root"}, both},
		"password without user":       {EtcdConfig{Endpoints: plain, Password: NewSecret("secret")}, both},
		"certificate without key":     {EtcdConfig{Endpoints: secure, Cert: "cert.pem"}, both},
		"key without certificate":     {EtcdConfig{Endpoints: secure, CertKey: "key.pem"}, both},
		"CA for http":                 {EtcdConfig{Endpoints: plain, CACert: "ca.pem"}, forHTTPS},
		"certificate for http":        {EtcdConfig{Endpoints: plain, Cert: "cert.pem", CertKey: "key.pem"}, forHTTPS},
		"TLS for http":                {EtcdConfig{Endpoints: plain, TLS: &tls.Config{}}, "TLS is for https endpoints"},
		"TLS and CA":                  {EtcdConfig{Endpoints: secure, TLS: &tls.Config{}, CACert: "ca.pem"}, "TLS is given: put"},
		"TLS and certificate":         {EtcdConfig{Endpoints: secure, TLS: &tls.Config{}, Cert: "cert.pem", CertKey: "key.pem"}, "TLS is given: put"},
		"client and TLS":              {EtcdConfig{Client: client, TLS: &tls.Config{}}, clientAlone},
		"negative dial timeout":       {EtcdConfig{Endpoints: plain, DialTimeout: -1}, "must not be negative"},
		"negative request timeout":    {EtcdConfig{Endpoints: plain, RequestTimeout: -1}, "must not be negative"},
		"client and endpoints":        {EtcdConfig{Client: client, Endpoints: plain}, clientAlone},
		"client and CA":               {EtcdConfig{Client: client, CACert: "ca.pem"}, clientAlone},
		"client and user":             {EtcdConfig{Client: client, Username: "root", Password: NewSecret("secret")}, clientAlone},
		"client and dial timeout":     {EtcdConfig{Client: client, DialTimeout: 1}, clientAlone},
		"client and negative timeout": {EtcdConfig{Client: client, RequestTimeout: -1}, "must not be negative"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, entering(c.config), c.says)
		})
	}

	alone := EtcdConfig{Client: client, RequestTimeout: time.Second}
	require.NoError(t, entering(alone))
	require.Equal(t, "etcd at http://127.0.0.1:1", alone.String())
}

func TestTimeoutsAreFiveAndTwoSecondsUnlessGiven(t *testing.T) {
	config := Etcd("http://a:1")
	resolved, err := config.resolve()
	require.NoError(t, err)
	require.Equal(t, 5*time.Second, resolved.DialTimeout)
	require.Equal(t, 2*time.Second, config.requestTimeout())

	config.DialTimeout, config.RequestTimeout = 3*time.Second, 4*time.Second
	resolved, err = config.resolve()
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, resolved.DialTimeout)
	require.Equal(t, 4*time.Second, config.requestTimeout())
}

// identity is a certificate that is its own authority, and its key.
type identity struct {
	certFile, keyFile string
	pair              tls.Certificate
	pool              *x509.CertPool
}

func newIdentity(t *testing.T) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"etcd.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})

	id := identity{pool: x509.NewCertPool()}
	id.certFile, id.keyFile = writeFile(t, "cert.pem", certPEM), writeFile(t, "key.pem", keyPEM)
	id.pair, err = tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	require.True(t, id.pool.AppendCertsFromPEM(certPEM))
	return id
}

func writeFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// shakeHands has a client of config meet a server that wants to know the
// client, and returns what each of them says.
func shakeHands(t *testing.T, config EtcdConfig, server, client identity) (clientErr, serverErr error) {
	t.Helper()
	secured, err := config.newTLS(zap.NewNop())
	require.NoError(t, err)

	// Not net.Pipe: it has no buffer, and an alert that crosses the other
	// side's certificate would wait for ever.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		done <- tls.Server(conn, &tls.Config{
			Certificates: []tls.Certificate{server.pair}, ClientCAs: client.pool, ClientAuth: tls.RequireAndVerifyClientCert,
			NextProtos: []string{"h2"},
		}).Handshake()
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	safe, _, clientErr := secured.ClientHandshake(t.Context(), "etcd.test:2379", conn)
	if clientErr == nil {
		io.Copy(io.Discard, safe) // until the server has made up its mind
	}
	conn.Close()
	return clientErr, <-done
}

func TestCertificateFilesAreUsedToKnowTheServerAndToBeKnown(t *testing.T) {
	server, client, stranger := newIdentity(t), newIdentity(t), newIdentity(t)

	clientErr, serverErr := shakeHands(t,
		EtcdConfig{CACert: server.certFile, Cert: client.certFile, CertKey: client.keyFile}, server, client)
	require.NoError(t, clientErr)
	require.NoError(t, serverErr)

	_, serverErr = shakeHands(t, EtcdConfig{CACert: server.certFile}, server, client)
	require.ErrorContains(t, serverErr, "didn't provide a certificate")
	_, serverErr = shakeHands(t,
		EtcdConfig{CACert: server.certFile, Cert: stranger.certFile, CertKey: stranger.keyFile}, server, client)
	require.Error(t, serverErr, "any client certificate will do")

	for name, ca := range map[string]string{"the system's": "", "another": stranger.certFile} {
		clientErr, _ = shakeHands(t, EtcdConfig{CACert: ca, Cert: client.certFile, CertKey: client.keyFile}, server, client)
		var unknown *tls.CertificateVerificationError
		require.ErrorAs(t, clientErr, &unknown, "with %s authority", name)
	}
}

func TestHTTPSWithoutFilesIsAtLeastTLS12(t *testing.T) {
	secured, err := Etcd("https://a").newTLS(zap.NewNop())
	require.NoError(t, err)
	config := secured.renewed()
	require.Equal(t, uint16(tls.VersionTLS12), config.MinVersion)
	require.Nil(t, config.RootCAs, "nil stands for the system's")
	require.Nil(t, config.GetClientCertificate)
	require.False(t, config.InsecureSkipVerify)
}

func TestCertificateFileThatWillNotDoIsNamed(t *testing.T) {
	one, other := newIdentity(t), newIdentity(t)
	absent := filepath.Join(t.TempDir(), "absent.pem")
	garbage := writeFile(t, "garbage.pem", []byte("-----BEGIN CERTIFICATE-----\ngarbage"))
	whole, err := os.ReadFile(one.certFile)
	require.NoError(t, err)
	cutOff := writeFile(t, "cut.pem", append(whole, whole[:100]...))
	for name, c := range map[string]struct {
		config EtcdConfig
		says   []string
	}{
		"no CA file":          {EtcdConfig{CACert: absent}, []string{"CACert", absent}},
		"CA file without one": {EtcdConfig{CACert: garbage}, []string{"CACert", garbage, "no PEM certificate"}},
		"CA cut off":          {EtcdConfig{CACert: cutOff}, []string{cutOff, "in the middle"}},
		"certificate cut off": {EtcdConfig{Cert: cutOff, CertKey: one.keyFile}, []string{cutOff, "in the middle"}},
		"a key for a CA":      {EtcdConfig{CACert: one.keyFile}, []string{one.keyFile, "no PEM certificate"}},
		"no certificate file": {EtcdConfig{Cert: absent, CertKey: one.keyFile}, []string{"Cert", absent}},
		"no key file":         {EtcdConfig{Cert: one.certFile, CertKey: absent}, []string{"CertKey", absent}},
		"certificate is none": {EtcdConfig{Cert: garbage, CertKey: one.keyFile}, []string{garbage}},
		"key and certificate exchanged": {
			EtcdConfig{Cert: one.keyFile, CertKey: one.certFile},
			[]string{one.keyFile, one.certFile},
		},
		"key of another certificate": {
			EtcdConfig{Cert: one.certFile, CertKey: other.keyFile},
			[]string{one.certFile, other.keyFile, "does not match"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.Endpoints = []string{"https://a:1"}
			err := entering(c.config)
			for _, part := range c.says {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

const secret = "s3cr3t"

func TestPasswordIsNeverPrinted(t *testing.T) {
	config := EtcdConfig{Endpoints: []string{"http://a:1"}, Username: "root", Password: NewSecret(secret)}
	cluster, err := New(Config{Key: "k", Registry: config})
	require.NoError(t, err)
	login := new(etcdConnections).loginAs(config.Username, config.Password, nil)
	for _, value := range []any{
		config,
		&config,
		[]EtcdConfig{config},
		map[string]Registry{"etcd": config},
		Config{Key: "k", Registry: config},
		&Config{Key: "k", Registry: &config},
		cluster,
		// Of fields that are not exported no method is called.
		struct{ config EtcdConfig }{config},
		struct{ config Config }{Config{Key: "k", Registry: config}},
		&struct{ configs []Config }{[]Config{{Registry: config}}},
		struct{ registry any }{map[string]Registry{"etcd": config}},
		struct{ inner struct{ config Config } }{struct{ config Config }{Config{Registry: config}}},
		login,
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			require.NotContains(t, fmt.Sprintf(verb, value), secret, "%s of a %T", verb, value)
		}
	}
	require.Equal(t, "etcd at http://a:1", fmt.Sprintf("%#v", config))

	// Logs in JSON write values so.
	for name, marshal := range map[string]func(any) ([]byte, error){"JSON": json.Marshal, "XML": xml.Marshal} {
		written, err := marshal(config)
		require.NoError(t, err)
		require.NotContains(t, string(written), secret, name)
		written, err = marshal(config.Password)
		require.NoError(t, err)
		require.NotContains(t, string(written), secret, name)
	}
}

func TestPasswordIsInNoError(t *testing.T) {
	garbage := writeFile(t, "garbage.pem", []byte(secret))
	for name, set := range map[string]func(*EtcdConfig){
		"without a scheme, before a comma": func(c *EtcdConfig) { c.Endpoints = []string{"root:" + secret + ",more@a:1"} },
		"no endpoints":                     func(c *EtcdConfig) { c.Endpoints = nil },
		"broken endpoint":                  func(c *EtcdConfig) { c.Endpoints = []string{"a"} },
		"negative timeout":                 func(c *EtcdConfig) { c.DialTimeout = -1 },
		"no user":                          func(c *EtcdConfig) { c.Username = "" },
		"files for http":                   func(c *EtcdConfig) { c.CACert = garbage },
		"CA of something":                  func(c *EtcdConfig) { c.Endpoints[0], c.CACert = "https://a:1", garbage },
		"key of something":                 func(c *EtcdConfig) { c.Endpoints[0], c.Cert, c.CertKey = "https://a:1", garbage, garbage },
		"in a URL":                         func(c *EtcdConfig) { c.Endpoints = []string{"http://root:" + secret + "@a:1"} },
		"in a URL to escape":               func(c *EtcdConfig) { c.Endpoints = []string{"http://root:%zz" + secret + "@a:1"} },
		"in a URL of several":              func(c *EtcdConfig) { c.Endpoints = []string{"http://a:1,http://root:" + secret + "@b:1"} },
		"in a URL without //":              func(c *EtcdConfig) { c.Endpoints = []string{"http:root:" + secret + "@a:1"} },
		"in a URL with one /":              func(c *EtcdConfig) { c.Endpoints = []string{"http:/root:" + secret + "@a:1"} },
		"without a scheme":                 func(c *EtcdConfig) { c.Endpoints = []string{"root:" + secret + "@a:1"} },
		"after a host":                     func(c *EtcdConfig) { c.Endpoints = []string{"http://a:1/root:" + secret + "@b:1"} },
		"in a query":                       func(c *EtcdConfig) { c.Endpoints = []string{"http://a:1?password=" + secret} },
		"as a user":                        func(c *EtcdConfig) { c.Endpoints = []string{"http://" + secret + "@a:1"} },
		"before a comma":                   func(c *EtcdConfig) { c.Endpoints = []string{"http://root:" + secret + ",more@a:1"} },
		"after a comma":                    func(c *EtcdConfig) { c.Endpoints = []string{"http://root:1," + secret + "@a:1"} },
		"before a #":                       func(c *EtcdConfig) { c.Endpoints = []string{"http://root:" + secret + "#more@a:1"} },
	} {
		t.Run(name, func(t *testing.T) {
			config := EtcdConfig{Endpoints: []string{"http://a:1"}, Username: "root", Password: NewSecret(secret)}
			set(&config)
			_, err := New(Config{Key: "k", Registry: config})
			require.Error(t, err)
			for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
				require.NotContains(t, fmt.Sprintf(verb, err), secret, verb)
				require.NotContains(t, fmt.Sprintf(verb, config), secret, "%s of the configuration", verb)
			}
		})
	}
}

func TestPasswordInTheClearIsWarnedOfOnceForAJoin(t *testing.T) {
	for endpoint, want := range map[string]int{
		"http://192.0.2.1:1": 1, "http://127.0.0.1:1,http://[2001:db8::1]:1": 1, "http://etcd.test:1": 1,
		"https://192.0.2.1:1": 0, "http://127.0.0.1:1": 0, "http://[::1]:1": 0, "http://localhost:1": 0,
	} {
		t.Run(endpoint, func(t *testing.T) {
			config := Etcd(endpoint)
			config.Username, config.Password = "root", NewSecret(secret)
			core, logs := observer.New(zap.DebugLevel)
			over, cancel := context.WithCancel(t.Context())
			cancel()
			for range 2 {
				r := Registration{Key: "k", Env: "e", Member: Member{ID: "a", Workers: 1}, TTL: DefaultTTL, Logger: zap.New(core)}
				m, err := config.Enter(r)
				require.NoError(t, err)
				for range 3 {
					_, _, err := m.Join(over, r.Member)
					require.ErrorIs(t, err, context.Canceled)
				}
			}
			require.Equal(t, 2*want, logs.FilterMessageSnippet("password is sent in the clear").Len())
			require.Equal(t, 2*want, logs.Len())
		})
	}
}

// entering returns the error of a configuration that will not do.
func entering(r Registry) error {
	_, err := r.Enter(Registration{})
	return err
}

// To ask costs etcd a proposal for each instance that joins.
func TestOnlyWhoMayBeAUserAsksWhatItMayWrite(t *testing.T) {
	client := func(endpoint string, change func(*clientv3.Config)) EtcdConfig {
		cfg := clientv3.Config{Endpoints: []string{"http://127.0.0.1:1", endpoint}}
		if change != nil {
			change(&cfg)
		}
		c, err := clientv3.New(cfg)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, c.Close()) })
		return EtcdConfig{Client: c}
	}
	const endpoint = "http://127.0.0.1:2"
	for name, c := range map[string]struct {
		of   EtcdConfig
		asks bool
	}{
		"endpoints":               {Etcd(endpoint), false},
		"a certificate":           {EtcdConfig{Cert: "cert.pem"}, true},
		"a configuration of TLS":  {EtcdConfig{TLS: &tls.Config{}}, true},
		"a password":              {EtcdConfig{Username: "mailer"}, true},
		"a client":                {client(endpoint, nil), false},
		"a client with a token":   {client(endpoint, func(c *clientv3.Config) { c.Token = "token" }), true},
		"a client with TLS":       {client("https://127.0.0.1:2", nil), true},
		"a client with no scheme": {client("127.0.0.1:2", func(c *clientv3.Config) { c.TLS = &tls.Config{} }), true},
	} {
		require.Equal(t, c.asks, c.of.toBeAllowed(Registration{Mode: ModePlanned}) != nil, name)
	}
}
