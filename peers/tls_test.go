package peers_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/peers"
)

// certificate writes one that vouches for itself, with its key, and returns the key tls of a
// file of peers.
func certificate(t testing.TB) map[string]string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.ParseIP("127.0.0.1")},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	files := map[string]string{"cert": filepath.Join(dir, "cert.pem"), "key": filepath.Join(dir, "key.pem")}
	files["ca"] = files["cert"]
	block := func(kind string, bytes []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes})
	}
	require.NoError(t, os.WriteFile(files["cert"], block("CERTIFICATE", cert), 0o600))
	require.NoError(t, os.WriteFile(files["key"], block("PRIVATE KEY", private), 0o600))
	return files
}

func TestAllConnectionsAreSecured(t *testing.T) {
	t.Parallel()
	list := files(t, 3, map[string]any{"tls": certificate(t)})
	all := spawnAll(t, "direct", list...)
	awaitAll(t, "a", 3, all...)

	// A client has the certificate too, and somebody without it is not served.
	c, err := peers.ReadConfig(list[0])
	require.NoError(t, err)
	client, err := peers.New(peers.Config{ID: "x", Peers: c.Peers, TLS: c.TLS})
	require.NoError(t, err)
	join(t, newCluster(t, client, nil))
	awaitAll(t, "a", 4, all...)
	_, err = http.Get("http://" + c.Listen + "/ping")
	require.Error(t, err)

	// What ends and comes back does so over TLS as well.
	all[2].kill()
	awaitAll(t, "a", 3, all[:2]...)
	lose(t, all[2])
	awaitAll(t, "a", 4, append(all[:2], spawn(t, list[2], "direct"))...)
}
