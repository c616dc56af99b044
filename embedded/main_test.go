package embedded_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster/embedded"
	"github.com/libcluster/libcluster/internal/testetcd"
	"github.com/libcluster/libcluster/internal/testhost"
)

// A test binary with one of these set is a child, which stands for another
// program that uses the package.
const (
	// childPort: it opens the etcd at this port, hosts it, and closes it when
	// its standard input ends.
	childPort = "EMBEDDED_TEST_PORT"
	// childDir: it starts an etcd with its data here, which is to fail, and
	// prints the error.
	childDir = "EMBEDDED_TEST_DIR"
)

func TestMain(m *testing.M) {
	if port, err := strconv.Atoi(os.Getenv(childPort)); err == nil {
		if err := hostAsChild(port); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(childDir); dir != "" {
		_, err := embedded.Start(context.Background(), embedded.Config{Dir: dir, Fast: true})
		fmt.Println(err)
		os.Exit(0)
	}
	testhost.Parallel(8)
	goleak.VerifyTestMain(m)
}

func hostAsChild(port int) error {
	s, err := embedded.Open(context.Background(), embedded.Config{Port: port, Fast: true})
	if err != nil {
		return err
	}
	fmt.Println("hosting", s.Hosting())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return s.Close()
}

// process is a child that hosts the etcd.
type process struct {
	*exec.Cmd
	end    io.Closer     // its standard input
	errors *bytes.Buffer // its standard error, once it has ended
}

func startChild(t *testing.T, port int) process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childPort+"="+strconv.Itoa(port))
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hosting true\n", line)
	return process{cmd, stdin, &stderr}
}

// patience bounds every wait in these tests.
const patience = testetcd.Patience

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// temporary gives the test, and its children, a temporary folder of their own.
func temporary(t *testing.T) string {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir)
	return dir
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func start(t *testing.T, cfg embedded.Config) *embedded.Server {
	t.Helper()
	cfg.Fast = true
	s, err := embedded.Start(testContext(t), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func open(t *testing.T, cfg embedded.Config) *embedded.Shared {
	t.Helper()
	cfg.Fast = true
	s, err := embedded.Open(testContext(t), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// server is a Server or a Shared.
type server interface{ Endpoint() string }

func client(t *testing.T, s server) *clientv3.Client {
	t.Helper()
	config := clientv3.Config{Endpoints: []string{s.Endpoint()}, Logger: zap.NewNop()}
	if shared, ok := s.(*embedded.Shared); ok {
		config.TLS = shared.TLS()
	}
	c, err := clientv3.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func put(t *testing.T, s server, key, value string) {
	t.Helper()
	c := client(t, s)
	defer c.Close()
	_, err := c.Put(testContext(t), key, value)
	require.NoError(t, err)
}

// get returns the value of a key, or nothing.
func get(t *testing.T, s server, key string) string {
	t.Helper()
	c := client(t, s)
	defer c.Close()
	r, err := c.Get(testContext(t), key)
	require.NoError(t, err)
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

func eventuallyHosting(t *testing.T, s *embedded.Shared) {
	t.Helper()
	require.Eventually(t, s.Hosting, patience, 10*time.Millisecond)
}
