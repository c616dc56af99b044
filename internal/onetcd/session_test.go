package onetcd_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
)

// session opens a session of the registry by itself, without a cluster above it.
func session(t *testing.T, registry libcluster.Registry, cluster, id string) libcluster.Session {
	t.Helper()
	s, _, err := between.Join(t.Context(), registry, libcluster.Registration{
		Key: cluster, Env: "e", Member: libcluster.Member{ID: id, Workers: 1}, TTL: time.Minute, Logger: zap.NewNop(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func next(t *testing.T, s libcluster.Session) libcluster.Change {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	change, err := s.Next(ctx)
	require.NoError(t, err)
	return change
}

func ids(change libcluster.Change) []string {
	var ids []string
	for _, e := range change.Events {
		id := e.Member.ID
		if e.Gone {
			id = "-" + id
		}
		ids = append(ids, id)
	}
	return ids
}

func TestChangesRightAfterTheJoinAreSeenOnceAndInOrder(t *testing.T) {
	cluster, client := key(t), etcdClient(t)
	a := session(t, patient(t), cluster, "a")
	require.Equal(t, []string{"a"}, ids(next(t, a)))
	for _, id := range []string{"b", "c"} {
		_, err := client.Put(t.Context(), "/"+cluster+"/e/"+id, "1")
		require.NoError(t, err)
	}
	_, err := client.Delete(t.Context(), "/"+cluster+"/e/b")
	require.NoError(t, err)
	var seen []string
	for len(seen) < 3 {
		seen = append(seen, ids(next(t, a))...)
	}
	require.Equal(t, []string{"b", "c", "-b"}, seen)
}

func TestCompactionLeadsToAReReadNotToAMissedChange(t *testing.T) {
	cluster, client := key(t), etcdClient(t)
	line := &cuttable{}
	a := session(t, libcluster.EtcdConfig{Client: line.client(t)}, cluster, "a")
	require.Equal(t, []string{"a"}, ids(next(t, a)))
	witness := session(t, patient(t), cluster, "w")
	require.Equal(t, []string{"a", "w"}, ids(next(t, witness)))
	require.Equal(t, []string{"w"}, ids(next(t, a)))
	line.cut(true)

	put, err := client.Put(t.Context(), "/"+cluster+"/e/b", "1")
	require.NoError(t, err)
	deleted, err := client.Delete(t.Context(), "/"+cluster+"/e/b")
	require.NoError(t, err)
	_, err = client.Put(t.Context(), "/"+cluster+"/e/c", "1")
	require.NoError(t, err)
	require.Less(t, put.Header.Revision, deleted.Header.Revision)
	for !slices.Contains(ids(next(t, witness)), "c") { // it is not behind
	}
	_, err = client.Compact(t.Context(), deleted.Header.Revision)
	require.NoError(t, err)
	line.mend()

	again := next(t, a)
	require.True(t, again.Reset)
	require.Equal(t, []string{"a", "c", "w"}, ids(again))
	// Its generation is one that everybody else comes to know too.
	for {
		if seen := next(t, witness); seen.Generation >= again.Generation {
			require.Equal(t, again.Generation, seen.Generation)
			break
		}
	}
	// And it goes on from there.
	_, err = client.Put(t.Context(), "/"+cluster+"/e/d", "1")
	require.NoError(t, err)
	var seen []string
	for len(seen) == 0 || seen[len(seen)-1] != "d" {
		seen = append(seen, ids(next(t, a))...)
	}
}

func TestRejoiningDoesNotTakeTheIDBackFromAnother(t *testing.T) {
	cluster, registry := key(t), patient(t)
	r := libcluster.Registration{
		Key: cluster, Env: "e", Member: libcluster.Member{ID: "a", Workers: 1}, TTL: time.Minute, Logger: zap.NewNop(),
	}
	enter := func() libcluster.Membership {
		m, err := registry.Enter(r)
		require.NoError(t, err)
		return m
	}
	join := func(m libcluster.Membership) (libcluster.Session, error) {
		s, _, err := m.Join(t.Context(), r.Member)
		if err == nil {
			t.Cleanup(func() { s.Close() })
		}
		return s, err
	}
	own := enter()
	_, err := join(own)
	require.NoError(t, err)
	second, err := join(own)
	require.NoError(t, err, "its own key, still there")
	require.NoError(t, second.Leave(t.Context(), libcluster.Departure{}))
	third, err := join(own)
	require.NoError(t, err, "its own key, gone by now")
	stranger, err := join(enter())
	require.NoError(t, err)
	_, err = join(own)
	require.ErrorIs(t, err, libcluster.ErrInstanceTaken)
	_, err = stranger.Renew(t.Context())
	require.NoError(t, err)
	_, err = third.Renew(t.Context())
	require.ErrorIs(t, err, libcluster.ErrInstanceTaken)
}

// cuttable is a line to etcd that can be cut.
type cuttable struct {
	mu    sync.Mutex
	conns []net.Conn
	down  bool
}

// client returns a client on the line, which reconnects without delay.
func (c *cuttable) client(t *testing.T) *clientv3.Client {
	return etcdClient(t, func(config *clientv3.Config) {
		config.DialOptions = append(config.DialOptions, grpc.WithContextDialer(c.dial),
			grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: patience, Backoff: backoff.Config{
				BaseDelay: time.Millisecond, Multiplier: 1, MaxDelay: time.Millisecond,
			}}))
	})
}

func (c *cuttable) dial(ctx context.Context, addr string) (net.Conn, error) {
	if u, err := url.Parse(addr); err == nil && u.Host != "" {
		addr = u.Host
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, errors.New("the line is cut")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

// cut ends all connections; with down there are no new ones until mend.
func (c *cuttable) cut(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns, c.down = nil, down
}

func (c *cuttable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = false
}

func TestCutConnectionMissesNoChange(t *testing.T) {
	t.Parallel()
	cluster, client, line := key(t), etcdClient(t), &cuttable{}
	i := start(t, libcluster.Config{Key: cluster, ID: "a", Registry: libcluster.EtcdConfig{Client: line.client(t)}})
	for n := range 5 {
		_, err := client.Put(t.Context(), "/"+cluster+"/production/b", string(rune('1'+n)))
		require.NoError(t, err)
		i.Becomes(0, 2+n)
		line.cut(false)
		_, err = client.Put(t.Context(), "/"+cluster+"/production/c", "1")
		require.NoError(t, err)
		i.Becomes(0, 3+n)
		_, err = client.Delete(t.Context(), "/"+cluster+"/production/c")
		require.NoError(t, err)
		line.cut(false)
		i.Becomes(0, 2+n)
	}
	for _, s := range i.Told() {
		require.Equal(t, 0, s.Index, "a short cut costs nobody its place")
	}
}

func TestWrongPasswordEndsJoiningAtOnceAndStaysSecret(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, _ := startWithUsers(t, ctx)
	registry := libcluster.EtcdConfig{Endpoints: []string{server.Endpoint()}, Username: "root", Password: libcluster.NewSecret("wr0ng")}
	bad := prepare(t, libcluster.Config{Key: key(t), Registry: registry})
	err := bad.Join(ctx)
	require.ErrorContains(t, err, "authentication failed")
	require.ErrorContains(t, err, `/production/, user "root"; check EtcdConfig.Username and Password`)
	require.NotContains(t, err.Error(), "wr0ng")
	require.NoError(t, ctx.Err(), "it went on trying")

	anonymous := prepare(t, libcluster.Config{Key: key(t), Registry: libcluster.Etcd(server.Endpoint())})
	err = anonymous.Join(ctx)
	require.ErrorContains(t, err, "user name is empty")
	require.ErrorContains(t, err, "without a user; this etcd wants a user; set EtcdConfig.Username and Password")

	registry.Password = libcluster.NewSecret("s3cret")
	good := start(t, libcluster.Config{Key: key(t), Registry: registry})
	require.NoError(t, good.SetWorkers(ctx, 2))
	good.Becomes(0, 2)
	good.Leaves()
}
