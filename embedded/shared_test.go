package embedded_test

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster/embedded"
	"github.com/libcluster/libcluster/internal/testhost"
)

func TestOneHostsAndTheOthersUseIt(t *testing.T) {
	temporary(t)
	port := testhost.FreePort(t)
	a := open(t, embedded.Config{Port: port})
	b := open(t, embedded.Config{Port: port})
	require.True(t, a.Hosting())
	require.False(t, b.Hosting())
	require.Equal(t, "https://"+address(port), a.Endpoint())
	require.Equal(t, a.Endpoint(), b.Endpoint())
	put(t, a, "key", "value")
	require.Equal(t, "value", get(t, b, "key"))
}

func TestManyMayOpenAtOnce(t *testing.T) {
	temporary(t)
	port := testhost.FreePort(t)
	ctx := testContext(t)
	const many = 8
	opened := make(chan *embedded.Shared, many)
	failed := make(chan error, many)
	for range many {
		go func() {
			s, err := embedded.Open(ctx, embedded.Config{Port: port, Fast: true})
			opened <- s
			failed <- err
		}()
	}
	hosts := 0
	for range many {
		s := <-opened
		require.NoError(t, <-failed)
		put(t, s, "key", "value") // it serves
		if s.Hosting() {
			hosts++
		}
		defer func() { require.NoError(t, s.Close()) }()
	}
	require.Equal(t, 1, hosts)
}

func TestAnotherTakesOverWhenTheHostCloses(t *testing.T) {
	host := requireTakeOver(t, func(host process) error { return host.end.Close() })
	require.NoError(t, host.Wait())
	require.Empty(t, host.errors.String(), "the host wrote to standard error")
}

func TestAnotherTakesOverWhenTheHostIsKilled(t *testing.T) {
	requireTakeOver(t, func(host process) error { return host.Process.Kill() })
}

// requireTakeOver ends a host, and fails the test unless another takes over and what
// clients had is still there.
func requireTakeOver(t *testing.T, end func(host process) error) process {
	t.Helper()
	temporary(t)
	port := testhost.FreePort(t)
	host := startChild(t, port)
	s := open(t, embedded.Config{Port: port})
	lease, watch := leave(t, s)

	begin := time.Now()
	require.NoError(t, end(host))
	eventuallyHosting(t, s)
	t.Logf("taken over after %v", time.Since(begin))
	requireKept(t, s, lease, watch)
	return host
}

// leave leaves a key with a lease in an etcd, and a watch on another key.
func leave(t *testing.T, s *embedded.Shared) (clientv3.LeaseID, clientv3.WatchChan) {
	t.Helper()
	require.False(t, s.Hosting())
	c := client(t, s)
	lease, err := c.Grant(testContext(t), 600)
	require.NoError(t, err)
	_, err = c.Put(testContext(t), "key", "value", clientv3.WithLease(lease.ID))
	require.NoError(t, err)
	watch := c.Watch(testContext(t), "other", clientv3.WithCreatedNotify())
	created := <-watch
	require.NoError(t, created.Err())
	return lease.ID, watch
}

// requireKept fails the test unless what leave left is still there.
func requireKept(t *testing.T, s *embedded.Shared, lease clientv3.LeaseID, watch clientv3.WatchChan) {
	t.Helper()
	require.Equal(t, "value", get(t, s, "key"))
	ttl, err := client(t, s).TimeToLive(testContext(t), lease, clientv3.WithAttachedKeys())
	require.NoError(t, err)
	require.Positive(t, ttl.TTL)
	require.Len(t, ttl.Keys, 1)

	put(t, s, "other", "changed")
	change := <-watch
	require.NoError(t, change.Err())
	require.Len(t, change.Events, 1)
	require.Equal(t, "changed", string(change.Events[0].Kv.Value))
}

func TestHostThatClosesWaitsForNoClient(t *testing.T) {
	temporary(t)
	var hosts []*embedded.Shared
	var closing []func() error
	for range patience/(7*time.Second) + 1 {
		s := open(t, embedded.Config{Port: testhost.FreePort(t)})
		hosts, closing = append(hosts, s), append(closing, s.Close)
		occupy(t, s)
	}
	requireAllClose(t, closing)
	for _, s := range hosts {
		require.False(t, s.Hosting())
		require.NoError(t, s.Close())
	}
}

func TestTheLastToCloseRemovesTheTemporaryFolder(t *testing.T) {
	dir := temporary(t)
	port := testhost.FreePort(t)
	a := open(t, embedded.Config{Port: port})
	b := open(t, embedded.Config{Port: port})
	require.Len(t, entries(t, dir), 1)
	require.NoError(t, a.Close())
	require.Len(t, entries(t, dir), 1)
	require.NoError(t, b.Close())
	require.Empty(t, entries(t, dir))
}

func TestWhatKilledProcessesLeftInTheTemporaryFolderIsNotFound(t *testing.T) {
	dir := temporary(t)
	port := testhost.FreePort(t)
	host := startChild(t, port)
	a := open(t, embedded.Config{Port: port})
	require.False(t, a.Hosting())
	put(t, a, "key", "value")
	require.NoError(t, a.Close())
	require.NoError(t, host.Process.Kill())
	require.Error(t, host.Wait())
	require.Len(t, entries(t, dir), 1)

	s := open(t, embedded.Config{Port: port})
	require.Empty(t, get(t, s, "key"))
}

func TestNamedFolderIsNeitherClearedNorRemoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, embedded.Config{Port: testhost.FreePort(t), Dir: dir})
	put(t, s, "key", "value")
	require.NoError(t, s.Close())
	s = open(t, embedded.Config{Port: testhost.FreePort(t), Dir: dir})
	require.Equal(t, "value", get(t, s, "key"))
}

func TestForeignProgramAtThePortIsNotUsed(t *testing.T) {
	dir := temporary(t)
	foreign := start(t, embedded.Config{Dir: t.TempDir()})
	at := foreign.Endpoint()
	_, port, err := net.SplitHostPort(at[len("http://"):])
	require.NoError(t, err)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	_, err = embedded.Open(testContext(t), embedded.Config{Port: n, Fast: true})
	require.ErrorContains(t, err, "use it as -r "+at+", or choose another port as embedded:PORT")
	require.Empty(t, entries(t, dir))
}

func TestOpenNeedsAPort(t *testing.T) {
	_, err := embedded.Open(testContext(t), embedded.Config{})
	require.ErrorContains(t, err, "Port 0")
}

func TestOneFolderServesOnePort(t *testing.T) {
	dir := t.TempDir()
	port := testhost.FreePort(t)
	open(t, embedded.Config{Port: port, Dir: dir})
	_, err := embedded.Open(testContext(t), embedded.Config{Port: testhost.FreePort(t), Dir: dir, Fast: true})
	require.ErrorContains(t, err, dir+": is in use for port "+strconv.Itoa(port))
}

func TestStartAndOpenDoNotShareAFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, embedded.Config{Dir: dir})
	_, err := embedded.Open(testContext(t), embedded.Config{Port: testhost.FreePort(t), Dir: dir, Fast: true})
	require.ErrorContains(t, err, dir+" is in use")
	require.NoError(t, s.Close())

	open(t, embedded.Config{Port: testhost.FreePort(t), Dir: dir})
	_, err = embedded.Start(testContext(t), embedded.Config{Dir: dir, Fast: true})
	require.ErrorContains(t, err, dir+" is in use")
}

// hang does what a host does that hangs: it holds the lock of those who host,
// and does not serve, or so the others are told.
func hang(t *testing.T, dir string, serves bool) (end func()) {
	t.Helper()
	host := flock.New(filepath.Join(dir, "libcluster-host.lock"))
	locked, err := host.TryLock()
	require.NoError(t, err)
	require.True(t, locked)
	serving := flock.New(filepath.Join(dir, "libcluster-serving.lock"))
	if serves {
		locked, err = serving.TryLock()
		require.NoError(t, err)
		require.True(t, locked)
	}
	end = func() {
		require.NoError(t, serving.Unlock())
		require.NoError(t, host.Unlock())
	}
	t.Cleanup(end)
	return end
}

func TestOpenEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	hang(t, dir, false)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := embedded.Open(ctx, embedded.Config{Port: testhost.FreePort(t), Dir: dir, Fast: true})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, dir)
}

func TestTakeOverIsTriedUntilThePortIsFree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port := testhost.FreePort(t)
	end := hang(t, dir, true)
	core, logs := observer.New(zapcore.InfoLevel)
	s := open(t, embedded.Config{Port: port, Dir: dir, Logger: zap.New(core)})
	require.False(t, s.Hosting())

	thief, err := net.Listen("tcp4", address(port))
	require.NoError(t, err)
	end()
	failures := logs.FilterLevelExact(zapcore.ErrorLevel)
	require.Eventually(t, func() bool {
		failures = logs.FilterLevelExact(zapcore.ErrorLevel)
		return failures.Len() > 0
	}, patience, 10*time.Millisecond)
	require.Contains(t, failures.All()[0].ContextMap()["error"], address(port)+" cannot be used")
	require.False(t, s.Hosting())

	// Another may have more luck, and gets a chance.
	host := flock.New(filepath.Join(dir, "libcluster-host.lock"))
	require.Eventually(t, func() bool {
		locked, err := host.TryLock()
		return locked && err == nil
	}, patience, 10*time.Millisecond)
	require.NoError(t, host.Unlock())

	require.NoError(t, thief.Close())
	eventuallyHosting(t, s)
	put(t, s, "key", "value")
}

// A logger that blocks must not stop the etcd, which would have all who use it fenced.
func TestBlockedLoggerDoesNotKeepTheEtcdFromServing(t *testing.T) {
	t.Parallel()
	full := make(chan struct{})
	defer close(full)
	core, _ := observer.New(zapcore.InfoLevel)
	blocks := zap.New(core, zap.Hooks(func(zapcore.Entry) error { <-full; return nil }))
	s := open(t, embedded.Config{Port: testhost.FreePort(t), Dir: t.TempDir(), Logger: blocks})
	require.True(t, s.Hosting(), "which it has logged")
	put(t, s, "key", "value")
	require.NoError(t, s.Close())
}
