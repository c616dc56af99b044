package embedded_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster/embedded"
	"github.com/libcluster/libcluster/internal/testhost"
)

func TestStartServesAndCloseLeavesNothingBehind(t *testing.T) {
	dir := temporary(t)
	port := testhost.FreePort(t)
	s := start(t, embedded.Config{Port: port})
	require.Equal(t, "http://"+address(port), s.Endpoint())
	put(t, s, "key", "value")
	require.Equal(t, "value", get(t, s, "key"))

	require.NoError(t, s.Close())
	l, err := net.Listen("tcp4", address(port))
	require.NoError(t, err, "the port is not free")
	l.Close()
	require.Empty(t, entries(t, dir), "the temporary folder is not empty")
}

func TestCloseMayBeCalledTwiceAndAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Config{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { require.NoError(t, s.Close()) })
	}
	wg.Wait()
	require.NoError(t, s.Close())
}

func TestTwoServersWithoutAPortDoNotMeet(t *testing.T) {
	a, b := start(t, embedded.Config{}), start(t, embedded.Config{})
	put(t, a, "key", "value")
	require.Empty(t, get(t, b, "key"))
}

func TestKeysAndLeasesSurviveARestartOnAnotherPort(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "by", "start")
	s := start(t, embedded.Config{Dir: dir})
	c := client(t, s)
	lease, err := c.Grant(testContext(t), 600)
	require.NoError(t, err)
	_, err = c.Put(testContext(t), "key", "value", clientv3.WithLease(lease.ID))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.DirExists(t, dir)

	s = start(t, embedded.Config{Dir: dir})
	require.Equal(t, "value", get(t, s, "key"))
	ttl, err := client(t, s).TimeToLive(testContext(t), lease.ID)
	require.NoError(t, err)
	require.Equal(t, int64(600), ttl.GrantedTTL)
	require.Positive(t, ttl.TTL)
}

func TestSecondStartOnTheSameFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := start(t, embedded.Config{Dir: dir})
	_, err := embedded.Start(testContext(t), embedded.Config{Dir: dir})
	require.ErrorContains(t, err, "data folder "+dir+" is in use")
	require.NoError(t, s.Close())
	start(t, embedded.Config{Dir: dir})
}

func TestStartOnAnOccupiedPortSaysWhatToDo(t *testing.T) {
	dir := temporary(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	at := l.Addr().String()
	_, err = embedded.Start(testContext(t), embedded.Config{Port: l.Addr().(*net.TCPAddr).Port})
	require.ErrorContains(t, err, at+" cannot be used")
	require.ErrorContains(t, err, "use it as -r http://"+at+", or choose another port as embedded:PORT")
	require.Empty(t, entries(t, dir), "the temporary folder is not empty")
}

func TestPortsOutOfRangeAreRefused(t *testing.T) {
	for _, port := range []int{-1, 65536} {
		_, err := embedded.Start(t.Context(), embedded.Config{Port: port})
		require.ErrorContains(t, err, "Port")
		_, err = embedded.Open(t.Context(), embedded.Config{Port: port})
		require.ErrorContains(t, err, "Port")
	}
}

// All of 127.0.0.0/8 is this machine, as all of its other addresses are, and
// only at 127.0.0.1 may anything listen.
func TestOnlyLoopbackIsListenedOn(t *testing.T) {
	s := start(t, embedded.Config{})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.Endpoint(), "http://"))
	require.NoError(t, err)
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	addresses = append(addresses, &net.IPNet{IP: net.IPv4(127, 0, 0, 2)})
	for _, a := range addresses {
		ip := a.(*net.IPNet).IP
		c, err := net.DialTimeout("tcp", net.JoinHostPort(ip.String(), port), time.Second)
		if err == nil {
			c.Close()
		}
		require.Equal(t, ip.Equal(net.IPv4(127, 0, 0, 1)), err == nil, "%v: %v", ip, err)
	}
}

// Left to itself, etcd waits 7 s for a client that watches, and for ever for a
// connection on which nothing is said. To wait so often takes longer than patience.
func TestCloseWaitsForNoClient(t *testing.T) {
	var closing []func() error
	for range patience/(7*time.Second) + 1 {
		s := start(t, embedded.Config{})
		closing = append(closing, s.Close)
		occupy(t, s)
	}
	requireAllClose(t, closing)
}

// requireAllClose closes one after another, which must not take as long as patience.
func requireAllClose(t *testing.T, closing []func() error) {
	t.Helper()
	closed := make(chan error, len(closing))
	begin := time.Now()
	go func() {
		for _, end := range closing {
			closed <- end()
		}
	}()
	tooLate := time.After(patience)
	for range closing {
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-tooLate:
			require.FailNow(t, "closing waits for clients")
		}
	}
	t.Logf("closed %d within %v", len(closing), time.Since(begin))
}

// occupy has clients at an etcd that do not leave by themselves before the test ends.
func occupy(t *testing.T, s server) {
	t.Helper()
	c := client(t, s)
	watch := c.Watch(t.Context(), "key", clientv3.WithCreatedNotify())
	created := <-watch
	require.NoError(t, created.Err())
	lease, err := c.Grant(testContext(t), 60)
	require.NoError(t, err)
	alive, err := c.KeepAlive(t.Context(), lease.ID)
	require.NoError(t, err)
	<-alive
	silent, err := net.Dial("tcp4", address(portOf(t, s)))
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
}

func TestStartEndsWithItsContext(t *testing.T) {
	dir := temporary(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := embedded.Start(ended, embedded.Config{})
	require.ErrorIs(t, err, context.Canceled)

	// When the etcd runs, but an election is still to come.
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	port := testhost.FreePort(t)
	_, err = embedded.Start(soon, embedded.Config{Port: port})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	l, err := net.Listen("tcp4", address(port))
	require.NoError(t, err, "the port is not free")
	l.Close()
	require.Empty(t, entries(t, dir), "the temporary folder is not empty")
}

// Etcd itself would start from what the first one left, and never be ready.
func TestStartThatWasCutOffDoesNotSpoilTheFolder(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := embedded.Start(ctx, embedded.Config{Dir: dir, Fast: true})
	require.ErrorIs(t, err, context.Canceled)
	require.DirExists(t, filepath.Join(dir, "member"), "it was not cut off while at it")

	s := start(t, embedded.Config{Dir: dir})
	put(t, s, "key", "value")
	require.NoError(t, s.Close())
	s = start(t, embedded.Config{Dir: dir})
	require.Equal(t, "value", get(t, s, "key"))
}

func TestLeasesOfOneSecondAreGranted(t *testing.T) {
	t.Parallel()
	for name, fast := range map[string]bool{"fast": true, "not fast": false} {
		t.Run(name, func(t *testing.T) {
			s, err := embedded.Start(testContext(t), embedded.Config{Fast: fast})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			lease, err := client(t, s).Grant(testContext(t), 1)
			require.NoError(t, err)
			require.Equal(t, int64(1), lease.TTL)
		})
	}
}

func TestLoggerHearsNothingOfAnOrdinaryLife(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	s := start(t, embedded.Config{Logger: zap.New(core)})
	put(t, s, "key", "value")
	require.NoError(t, s.Close())
	slowness := []string{"apply request took too long", "request stats", "cannot campaign at term 1"} // of this machine, and rightly
	require.Empty(t, logs.Filter(func(e observer.LoggedEntry) bool {
		return !slices.ContainsFunc(slowness, func(is string) bool { return strings.Contains(e.Message, is) })
	}).All())
}

func TestUnusableDataIsAnErrorAndNotTheEndOfTheProcess(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, member string){
		// Etcd would end the process.
		"failed to create snapshot directory": func(t *testing.T, member string) {
			require.NoError(t, os.RemoveAll(filepath.Join(member, "snap")))
			require.NoError(t, os.WriteFile(filepath.Join(member, "snap"), nil, 0o600))
		},
		// Etcd would panic.
		"runtime error": func(t *testing.T, member string) {
			logs, err := filepath.Glob(filepath.Join(member, "wal", "*.wal"))
			require.NoError(t, err)
			require.Len(t, logs, 1)
			log, err := os.OpenFile(logs[0], os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = log.WriteAt(bytes.Repeat([]byte{'!'}, 70), 20)
			require.NoError(t, err)
			require.NoError(t, log.Close())
		},
		// Etcd returns an error.
		"crc mismatch": func(t *testing.T, member string) {
			logs, err := filepath.Glob(filepath.Join(member, "wal", "*.wal"))
			require.NoError(t, err)
			require.Len(t, logs, 1)
			content, err := os.ReadFile(logs[0])
			require.NoError(t, err)
			at := bytes.Index(content, []byte("needle"))
			require.Positive(t, at)
			content[at] = '!'
			require.NoError(t, os.WriteFile(logs[0], content, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := start(t, embedded.Config{Dir: dir})
			put(t, s, "haystack", "needle")
			require.NoError(t, s.Close())
			damage(t, filepath.Join(dir, "member"))

			child := exec.CommandContext(testContext(t), os.Args[0])
			child.Env = append(os.Environ(), childDir+"="+dir)
			output, err := child.CombinedOutput()
			require.NoError(t, err)
			require.Contains(t, string(output), "start an etcd with its data in "+dir)
			require.Contains(t, string(output), name)
		})
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	return names
}
