package embedded_test

import (
	"crypto/tls"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/libcluster/libcluster/embedded"
	"github.com/libcluster/libcluster/internal/testhost"
)

func portOf(t *testing.T, s server) int {
	t.Helper()
	u, err := url.Parse(s.Endpoint())
	require.NoError(t, err)
	port, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	return port
}

// tryPut puts a key without waiting for a server that takes it.
func tryPut(t *testing.T, c *clientv3.Client) error {
	t.Helper()
	_, err := pb.NewKVClient(c.ActiveConnection()).Put(testContext(t), &pb.PutRequest{Key: []byte("key"), Value: []byte("value")})
	return err
}

// When a host ends, another user may be the first to listen on its port.
func TestStrangersEtcdAtThePortIsNotUsed(t *testing.T) {
	t.Parallel()
	for name, stranger := range map[string]struct {
		come func(t *testing.T, port int) server
		says string
	}{
		"plain":       {func(t *testing.T, port int) server { return start(t, embedded.Config{Port: port}) }, "does not look like a TLS handshake"},
		"of the kind": {func(t *testing.T, port int) server { return open(t, embedded.Config{Port: port, Dir: t.TempDir()}) }, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			end := hang(t, dir, true)
			s := open(t, embedded.Config{Port: testhost.FreePort(t), Dir: dir})
			mine := client(t, s)
			other := stranger.come(t, portOf(t, s))
			end()

			err := tryPut(t, mine)
			require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
			require.ErrorContains(t, err, stranger.says)
			require.Empty(t, get(t, other, "key"))

			require.NoError(t, other.(interface{ Close() error }).Close())
			eventuallyHosting(t, s)
			_, err = mine.Put(testContext(t), "key", "value")
			require.NoError(t, err)
		})
	}
}

func TestNobodyIsServedWhoCannotReadTheFolder(t *testing.T) {
	s := open(t, embedded.Config{Port: testhost.FreePort(t), Dir: t.TempDir()})
	another := open(t, embedded.Config{Port: testhost.FreePort(t), Dir: t.TempDir()})
	nameless := s.TLS()
	nameless.Certificates = nil
	disguised := s.TLS()
	disguised.Certificates = another.TLS().Certificates
	for name, config := range map[string]clientv3.Config{
		"without TLS":                   {Endpoints: []string{"http://" + address(portOf(t, s))}},
		"without a certificate":         {Endpoints: []string{s.Endpoint()}, TLS: nameless},
		"with another's certificate":    {Endpoints: []string{s.Endpoint()}, TLS: disguised},
		"without a look at the servers": {Endpoints: []string{s.Endpoint()}, TLS: &tls.Config{InsecureSkipVerify: true}},
	} {
		config.Logger = zap.NewNop()
		c, err := clientv3.New(config)
		require.NoError(t, err)
		err = tryPut(t, c)
		require.NoError(t, c.Close())
		require.Equal(t, codes.Unavailable, status.Code(err), "%s: %v", name, err)
	}
	require.Empty(t, get(t, s, "key"))
}

// The file is what etcdctl takes as --cacert, --cert and --key.
func TestKeyIsForThisUserAloneAndMadeAnew(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "libcluster.pem")
	var before []byte
	for range 2 {
		s := open(t, embedded.Config{Port: testhost.FreePort(t), Dir: dir})
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		pair, err := tls.X509KeyPair(text, text)
		require.NoError(t, err)
		require.Equal(t, s.TLS().Certificates[0].Certificate, pair.Certificate)
		require.NotEqual(t, before, text)
		before = text
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077)
		require.NoError(t, s.Close())
		require.NoError(t, os.Chmod(file, 0o644))
	}
}
