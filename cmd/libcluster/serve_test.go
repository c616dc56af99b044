package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testcommand"
)

// served starts serve, and returns where it serves.
func served(t *testing.T, args ...string) (p *testcommand.Running, url string) {
	t.Helper()
	p = start(t, append([]string{"serve", "-k", key(t), "-r", etcdURL(t), "--listen", ":0"}, args...)...)
	serving := regexp.MustCompile(`(?m)^libcluster: serving (http://127\.0\.0\.1:\d+/)$`)
	p.Stderr.Await(t, "the address", serving.MatchString)
	return p, serving.FindStringSubmatch(p.Stderr.String())[1]
}

// get returns the status and the body of the answer to a request with a token, if there is one.
func get(t *testing.T, url, token string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

func TestClusterIsServedUntilASignal(t *testing.T) {
	a := instance(t, "a", libcluster.ModeCooperative, nil)
	require.NoError(t, a.Join(t.Context()))
	p, url := served(t)
	status, page := get(t, url, "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, key(t))
	_, members := get(t, url+"v1/members", "")
	var body struct{ Members []struct{ ID string } }
	require.NoError(t, json.Unmarshal([]byte(members), &body))
	require.Len(t, body.Members, 1)
	require.Equal(t, "a", body.Members[0].ID)
	p.Signal()
	require.Zero(t, p.Ends(t))
}

func TestServeNeedsTheTokenOfTheEnvironment(t *testing.T) {
	const token = "a token of many bytes"
	t.Setenv(tokenEnv, token)
	p, url := served(t)
	status, _ := get(t, url+"v1/state", "")
	require.Equal(t, http.StatusUnauthorized, status)
	status, _ = get(t, url+"v1/state", token)
	require.Equal(t, http.StatusOK, status)
	p.Signal()
	require.Zero(t, p.Ends(t))
	require.NotContains(t, p.Stderr.String(), token)

	t.Setenv(tokenEnv, "short")
	p = start(t, "serve", "-k", key(t), "-r", etcdURL(t))
	require.Equal(t, exitUsage, p.Ends(t))
	require.Contains(t, p.Stderr.String(), tokenEnv+": ")
	require.NotContains(t, p.Stderr.String(), "short")
}

func TestServeLetsThoseInWhoHaveACertificate(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	certFile, keyFile := ours.issue(t)
	p := start(t, "serve", "-k", key(t), "-r", etcdURL(t), "--listen", "127.0.0.1:0",
		"--tls-cert", certFile, "--tls-key", keyFile, "--client-ca", ours.file)
	serving := regexp.MustCompile(`(?m)^libcluster: serving (https://127\.0\.0\.1:\d+/)$`)
	p.Stderr.Await(t, "the address", serving.MatchString)
	url := serving.FindStringSubmatch(p.Stderr.String())[1] + "v1/state"
	as := func(a *authority) (status int, err error) {
		config := &tls.Config{RootCAs: ours.pool}
		if a != nil {
			pair, err := tls.LoadX509KeyPair(a.issue(t))
			require.NoError(t, err)
			// Whomever the server asks for.
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		transport := &http.Transport{TLSClientConfig: config}
		defer transport.CloseIdleConnections()
		answer, err := (&http.Client{Transport: transport, Timeout: patience}).Get(url)
		if err != nil {
			return 0, err
		}
		return answer.StatusCode, answer.Body.Close()
	}
	_, err := as(nil)
	require.Error(t, err, "no certificate")
	_, err = as(theirs)
	require.Error(t, err, "a certificate that somebody else has signed")
	status, err := as(ours)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	p.Signal()
	require.Zero(t, p.Ends(t), "%s", p.Stderr)
}

// authority signs certificates.
type authority struct {
	file string // its own certificate
	pool *x509.CertPool
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	a.cert = &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.file, _, a.key = a.sign(t, a.cert)
	text, err := os.ReadFile(a.file)
	require.NoError(t, err)
	require.True(t, a.pool.AppendCertsFromPEM(text))
	return a
}

// issue returns the files of a certificate for 127.0.0.1, and for clients.
func (a *authority) issue(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile, _ = a.sign(t, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return certFile, keyFile
}

// sign signs a certificate. The authority's own has signed itself.
func (a *authority) sign(t *testing.T, c *x509.Certificate) (certFile, keyFile string, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: rand.Text()}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	by := a.key
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), by)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	folder := t.TempDir()
	write := func(name, kind string, content []byte) string {
		file := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600))
		return file
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", private), key
}

func TestWhatCannotBeServedIsAnErrorThatSaysWhatToDo(t *testing.T) {
	for line, want := range map[string]struct {
		status int
		text   string
	}{
		"--listen 0.0.0.0:0":               {exitFailed, "other machines can reach it"},
		"--listen nowhere":                 {exitFailed, "must be HOST:PORT"},
		"--tls-cert x.pem":                 {exitUsage, "--tls-cert and --tls-key: give both"},
		"--client-ca x.pem":                {exitUsage, "--client-ca: needs --tls-cert"},
		"--tls-cert x.pem --tls-key x.pem": {exitUsage, "x.pem: no such file"},
		"-o json":                          {exitUsage, `unknown flag "-o"`},
	} {
		p := start(t, append([]string{"serve", "-k", key(t), "-r", etcdURL(t)}, strings.Fields(line)...)...)
		require.Equal(t, want.status, p.Ends(t), line)
		require.Contains(t, p.Stderr.String(), want.text)
	}
}
