package onetcd_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testetcd"
)

func TestThreeInstancesShareSevenWorkers(t *testing.T) {
	cluster := key(t)
	var nodes []*instance
	for n, workers := range []int{2, 1, 4} {
		nodes = append(nodes, start(t, libcluster.Config{Key: cluster, ID: fmt.Sprintf("node%d", n+1), Workers: workers}))
	}
	a := nodes[0].Becomes(0, 7)
	b := nodes[1].Becomes(2, 7)
	c := nodes[2].Becomes(3, 7)
	require.Equal(t, a.Generation, b.Generation)
	require.Equal(t, a.Generation, c.Generation)
	require.True(t, a.Primary())
	require.False(t, b.Primary())

	want := []libcluster.Assignment{
		{Member: libcluster.Member{ID: "node1", Workers: 2}, Index: 0},
		{Member: libcluster.Member{ID: "node2", Workers: 1}, Index: 2},
		{Member: libcluster.Member{ID: "node3", Workers: 4}, Index: 3},
	}
	for _, n := range nodes {
		require.Equal(t, want, n.Members())
	}

	got, err := etcdClient(t).Get(t.Context(), "/"+cluster+"/", clientv3.WithPrefix())
	require.NoError(t, err)
	var keys []string
	for _, kv := range got.Kvs {
		require.NotZero(t, kv.Lease, "%s has no lease", kv.Key)
		keys = append(keys, fmt.Sprintf("%s=%s", strings.TrimPrefix(string(kv.Key), "/"+cluster), kv.Value))
	}
	require.Equal(t, []string{"/production/node1=2", "/production/node2=1", "/production/node3=4"}, keys)
}

func TestPartitionAndEnvironmentSeparateClusters(t *testing.T) {
	cluster := key(t)
	start(t, libcluster.Config{Key: cluster, ID: "a"}).Becomes(0, 1)
	start(t, libcluster.Config{Key: cluster, ID: "a", Env: "dev"}).Becomes(0, 1)
	start(t, libcluster.Config{Key: cluster, ID: "a", Partition: "eu"}).Becomes(0, 1)
	// A partition named as an environment puts its keys below that one's.
	start(t, libcluster.Config{Key: cluster, ID: "b", Partition: "production"}).Becomes(0, 1)
	start(t, libcluster.Config{Key: cluster, ID: "c"}).Becomes(1, 2)

	got, err := etcdClient(t).Get(t.Context(), "/"+cluster+"/eu/production/a")
	require.NoError(t, err)
	require.Len(t, got.Kvs, 1)
}

func TestLeavingIsSeenAtOnceAndLeavesNothing(t *testing.T) {
	cluster, client := key(t), etcdClient(t)
	// About an hour: an instance that notices in this test has not waited for a TTL. And nobody
	// else on this etcd asks for it: by that its leases are known.
	const ttl = time.Hour + 1789*time.Second
	require.Zero(t, leases(t, client, ttl))
	a := start(t, libcluster.Config{Key: cluster, ID: "a", TTL: ttl})
	c := start(t, libcluster.Config{Key: cluster, ID: "c", TTL: ttl})
	a.Becomes(0, 2) // it has its watch, and with it all of its goroutines
	c.Leaves()
	running := goleak.IgnoreCurrent()
	b := start(t, libcluster.Config{Key: cluster, ID: "b", Workers: 3, TTL: ttl})
	a.Becomes(0, 4)
	require.Equal(t, 2, leases(t, client, ttl))
	b.Leaves()
	a.Becomes(0, 1)
	require.NoError(t, testetcd.Leaked(running), "after leaving")
	last := b.Told()[len(b.Told())-1]
	require.Equal(t, -1, last.Index)
	require.Equal(t, 1, last.Total, "the total of those who stay")
	require.ErrorIs(t, b.Err(), libcluster.ErrLeft)
	a.Leaves()

	got, err := client.Get(t.Context(), "/"+cluster+"/", clientv3.WithPrefix())
	require.NoError(t, err)
	require.Empty(t, got.Kvs)
	require.Zero(t, leases(t, client, ttl), "a lease is left behind")
}

// leases counts the leases that were granted for a TTL.
func leases(t *testing.T, client *clientv3.Client, ttl time.Duration) (n int) {
	all, err := client.Leases(t.Context())
	require.NoError(t, err)
	for _, l := range all.Leases {
		lease, err := client.TimeToLive(t.Context(), l.ID)
		require.NoError(t, err)
		if lease.GrantedTTL == int64(ttl/time.Second) {
			n++
		}
	}
	return n
}

func TestNothingIsWrittenToEtcdWhileNothingChanges(t *testing.T) {
	t.Parallel()
	var beats atomic.Int64
	counting := etcdClient(t, func(c *clientv3.Config) {
		c.DialOptions = append(c.DialOptions, grpc.WithChainStreamInterceptor(
			func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
				streamer grpc.Streamer, opts ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				stream, err := streamer(ctx, desc, cc, method, opts...)
				if strings.HasSuffix(method, "/LeaseKeepAlive") {
					stream = countingStream{stream, &beats}
				}
				return stream, err
			}))
	})
	cluster := key(t)
	i := start(t, libcluster.Config{
		Key: cluster, ID: "a", TTL: 10 * time.Second, Registry: libcluster.EtcdConfig{Client: counting},
	})
	require.Eventually(t, func() bool { return beats.Load() > 4 }, patience, time.Millisecond, "no heartbeats")
	got, err := counting.Get(t.Context(), "/"+cluster+"/production/a")
	require.NoError(t, err)
	require.EqualValues(t, 1, got.Kvs[0].Version, "the key was written again")
	require.Len(t, i.Told(), 1)
}

type countingStream struct {
	grpc.ClientStream
	answers *atomic.Int64
}

func (s countingStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.answers.Add(1)
	}
	return err
}

func TestWorkersSetWhileJoinedArePublishedToEtcdAtOnce(t *testing.T) {
	cluster := key(t)
	a := start(t, libcluster.Config{Key: cluster, ID: "a", TTL: time.Hour})
	b := start(t, libcluster.Config{Key: cluster, ID: "b", TTL: time.Hour})
	require.NoError(t, a.SetWorkers(t.Context(), 5))
	require.Equal(t, 5, a.Becomes(0, 6).Workers)
	require.Equal(t, 1, b.Becomes(5, 6).Workers)
	require.ErrorContains(t, a.SetWorkers(t.Context(), 0), "Workers 0: must be 1 to")
}

func TestPassiveInstanceSeesAndIsNotSeen(t *testing.T) {
	cluster, client := key(t), etcdClient(t)
	a := start(t, libcluster.Config{Key: cluster, ID: "a", Workers: 2})
	p := start(t, libcluster.Config{Key: cluster, ID: "p", Passive: true})
	p.Becomes(-1, 2)
	require.NoError(t, p.Err(), "passive and joined is no trouble")
	start(t, libcluster.Config{Key: cluster, ID: "b", Workers: 3})
	p.Becomes(-1, 5)
	a.Becomes(0, 5)
	require.Len(t, p.Members(), 2)
	require.ErrorContains(t, p.SetWorkers(t.Context(), 2), "passive")
	got, err := client.Get(t.Context(), "/"+cluster+"/production/p")
	require.NoError(t, err)
	require.Empty(t, got.Kvs)
}

func TestMemberWithMoreToSayPublishesJSON(t *testing.T) {
	cluster := key(t)
	start(t, libcluster.Config{
		Key: cluster, ID: "a", Workers: 2, Address: "10.0.0.1:80", Version: "1.2", Metadata: map[string]string{"zone": "b"},
	})
	got, err := etcdClient(t).Get(t.Context(), "/"+cluster+"/production/a")
	require.NoError(t, err)
	require.JSONEq(t, `{"workers":2,"address":"10.0.0.1:80","version":"1.2","metadata":{"zone":"b"}}`, string(got.Kvs[0].Value))

	b := start(t, libcluster.Config{Key: cluster, ID: "b"})
	seen := b.Members()[0]
	require.Equal(t, "10.0.0.1:80", seen.Address)
	require.Equal(t, "b", seen.Metadata["zone"])
}

func TestForeignKeysAreReportedAndIgnored(t *testing.T) {
	cluster, client := key(t), etcdClient(t)
	prefix := "/" + cluster + "/production/"
	put := func(id, value string) {
		_, err := client.Put(t.Context(), prefix+id, value)
		require.NoError(t, err)
	}
	t.Cleanup(func() { client.Delete(context.Background(), prefix, clientv3.WithPrefix()) })
	garbage := map[string]string{
		"0empty": "", "0garbage": "\x00\xff", "0json": `{"workers":`, "0negative": "-3", "0zero": "0",
		"0absurd": "99999999999999999999", "0huge": strings.Repeat("1", 300<<10), "0/nested": "three", "0/nested/twice": "3", "": "7", "0\x01": "1",
	}
	core, logs := observer.New(zapcore.WarnLevel)
	put("0garbage", "old garbage") // one before joining, the others after
	m := start(t, libcluster.Config{Key: cluster, ID: "m", Logger: zap.New(core)})
	for id, value := range garbage {
		put(id, value)
	}
	// A member by hand, ordered after the garbage: when it has been seen, so
	// has the garbage.
	put("a", "3")
	require.Equal(t, 1, m.Becomes(3, 4).Workers)
	put("a", "rubbish now")
	m.Becomes(0, 1)

	message := "ignoring a key that is not a member's"
	require.Eventually(t, func() bool { return logs.FilterMessage(message).Len() > len(garbage) }, testetcd.Patience, time.Millisecond)
	reported := map[string]bool{}
	for _, entry := range logs.FilterMessage(message).All() {
		reported[fmt.Sprint(entry.ContextMap()["key"])] = true
	}
	for id := range garbage {
		require.True(t, reported[fmt.Sprintf("%.300q", prefix+id)], "not reported: %q in %v", id, reported)
	}
	require.Len(t, reported, len(garbage)+1, "each key is reported once")

	for _, s := range m.Told() {
		require.GreaterOrEqual(t, s.Total, 1)
		require.LessOrEqual(t, s.Total, 4)
	}
	// An instance that comes now lists what the other has watched, and agrees.
	n := start(t, libcluster.Config{Key: cluster, ID: "n"})
	n.Becomes(1, 2)
	m.Becomes(0, 2)
}

func TestInstanceWhoseIDIsTakenIsToldAndDoesNotFight(t *testing.T) {
	cluster := key(t)
	a := start(t, libcluster.Config{Key: cluster, ID: "same", Workers: 2})
	b := start(t, libcluster.Config{Key: cluster, ID: "same", Workers: 3})
	a.Becomes(-1, 0)
	require.ErrorIs(t, a.Err(), libcluster.ErrInstanceTaken)
	require.Equal(t, 3, b.Becomes(0, 3).Workers)
	a.Leaves()
	require.True(t, b.State().Active(), "the one that lost the ID took the other's record along")
	require.NoError(t, b.Err())
	require.Len(t, b.Told(), 1)
}

// becomeWatches waits until so many watches are open in this process. A test that
// counts its own begins with 0: those of the test before may not all have ended.
func becomeWatches(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		stacks := make([]byte, 1<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), ".serveSubstream(") == n
	}, patience, time.Millisecond, "%d watches", n)
}

// An incarnation that is over stays until Leave, which removes what it has left. What
// its watches would report meanwhile, nobody would read.
func TestInstanceWhoseIDIsTakenWatchesNoMore(t *testing.T) {
	for mode, want := range map[libcluster.Mode]int{
		libcluster.ModeDirect:    1,
		libcluster.ModeExclusive: 2, // its own, of the plan, and the coordinator's
	} {
		t.Run(mode.String(), func(t *testing.T) {
			becomeWatches(t, 0)
			cfg := libcluster.Config{Key: key(t), ID: "same", Mode: mode, TTL: 4 * time.Second}
			a := start(t, cfg)
			a.Becomes(0, 1)
			becomeWatches(t, want)
			b := start(t, cfg)
			a.Becomes(-1, 0)
			require.ErrorIs(t, a.Err(), libcluster.ErrInstanceTaken)
			b.Becomes(0, 1)
			becomeWatches(t, want)
		})
	}
}

func TestDeletedKeyIsWrittenAgainByItsOwner(t *testing.T) {
	cluster, client := key(t), etcdClient(t)
	a := start(t, libcluster.Config{Key: cluster, ID: "a", TTL: time.Hour})
	b := start(t, libcluster.Config{Key: cluster, ID: "b", TTL: time.Hour})
	a.Becomes(0, 2)
	_, err := client.Delete(t.Context(), "/"+cluster+"/production/a")
	require.NoError(t, err)
	a.Becomes(0, 2)
	b.Becomes(1, 2)
	require.Eventually(t, func() bool { return len(a.Told()) >= 4 }, patience, time.Millisecond)
	var indexes []int
	for _, s := range a.Told() {
		indexes = append(indexes, s.Index)
	}
	require.Equal(t, []int{0, 0, -1, 0}, indexes, "alone, with b, fenced, back")
}

func TestKeyOverwrittenWithoutALeaseDoesNotLiveForEver(t *testing.T) {
	cluster, client := key(t), etcdClient(t)
	a := start(t, libcluster.Config{Key: cluster, ID: "a", TTL: time.Hour})
	_, err := client.Put(t.Context(), "/"+cluster+"/production/a", "9")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(a.Told()) >= 3 }, patience, time.Millisecond)
	require.Equal(t, 1, a.Becomes(0, 1).Workers)
	got, err := client.Get(t.Context(), "/"+cluster+"/production/a")
	require.NoError(t, err)
	require.NotZero(t, got.Kvs[0].Lease)
}

func TestManyJoiningAtOnceAgree(t *testing.T) {
	const n = 20
	cluster := key(t)
	instances := make([]*instance, n)
	total := 0
	for i := range instances {
		instances[i] = prepare(t, libcluster.Config{Key: cluster, Workers: 1 + i%3})
		total += 1 + i%3
	}
	var joining sync.WaitGroup
	for _, i := range instances {
		joining.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := i.Join(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	joining.Wait()
	require.Eventually(t, func() bool {
		for _, i := range instances {
			if i.State().Total != total {
				return false
			}
		}
		return true
	}, patience, time.Millisecond)
	holders := make([]string, total)
	for _, i := range instances {
		s := i.State()
		require.Equal(t, instances[0].State().Generation, s.Generation)
		for w := s.Index; w < s.Index+s.Workers; w++ {
			require.Empty(t, holders[w], "index %d is held twice", w)
			holders[w] = i.ID()
		}
	}
	require.NotContains(t, holders, "", "a gap")
	for _, i := range instances {
		states := i.Told()
		for j := 1; j < len(states); j++ {
			require.Greater(t, states[j].Generation, states[j-1].Generation)
			require.False(t, states[j].Index == states[j-1].Index && states[j].Total == states[j-1].Total, "called back for nothing")
		}
	}
}

func TestCallersClientIsUsedAndNotClosed(t *testing.T) {
	client := etcdClient(t)
	i := start(t, libcluster.Config{Key: key(t), Registry: libcluster.EtcdConfig{Client: client}})
	i.Leaves()
	_, err := client.Get(t.Context(), "/")
	require.NoError(t, err)
}

func TestUnreachableEtcdIsNamedAndJoiningEndsWithItsContext(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	running := goleak.IgnoreCurrent()
	c, err := libcluster.New(libcluster.Config{
		Key: key(t), Logger: zap.New(core),
		Registry: libcluster.EtcdConfig{Endpoints: []string{"http://127.0.0.1:1"}, RequestTimeout: 50 * time.Millisecond},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	joined := make(chan error)
	go func() { joined <- c.Join(ctx) }()
	require.Eventually(t, func() bool { return logs.Len() > 0 }, patience, time.Millisecond)
	require.Contains(t, fmt.Sprint(logs.All()[0].ContextMap()["error"]), "http://127.0.0.1:1")
	cancel()
	err = <-joined
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "http://127.0.0.1:1")
	require.NoError(t, testetcd.Leaked(running), "a failed join leaves something running")
	require.Equal(t, -1, c.State().Index)
}
