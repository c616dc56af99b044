package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/libcluster/libcluster"
)

// crowd is the number of instances in the benchmarks of joining.
const crowd = 100

// BenchmarkJoinAtOnce measures the time from the first of a crowd that starts
// to join until all of them report the same total, beside the floor: as many
// bare etcd clients that each put one key under a lease and watch until they have seen all.
func BenchmarkJoinAtOnce(b *testing.B) {
	compare(b,
		func() time.Duration {
			instances := make([]*libcluster.Cluster, crowd)
			var all rollCall
			cluster := key(b)
			for i := range instances {
				instances[i] = quiet(b, cluster, all.of(i, crowd))
			}
			all.begin(crowd)
			began := time.Now()
			join(b, instances)
			<-all.answered
			took := time.Since(began)
			leaveAll(b, instances)
			return took
		},
		func() time.Duration {
			prefix, from := "/"+key(b)+"/", revision(b)+1
			began := time.Now()
			clients := make([]*clientv3.Client, crowd)
			var seen sync.WaitGroup
			for i := range clients {
				seen.Go(func() {
					clients[i] = bare(b)
					watch := clients[i].Watch(b.Context(), prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
					put(b, clients[i], prefix, i, clientv3.WithLease(grant(b, clients[i])))
					await(b, watch, crowd)
				})
			}
			seen.Wait()
			took := time.Since(began)
			remove(b, prefix)
			closeAll(clients)
			return took
		})
}

// rollCall waits until all have reported the whole total. They may do so more than
// once: on a busy machine somebody's first attempt to join may fail when the record is
// there, and all are called back again.
type rollCall struct {
	mu       sync.Mutex
	missing  map[int]bool
	answered chan struct{} // closed when nobody is missing any more
}

// begin begins anew, with the instances 0 to n-1.
func (r *rollCall) begin(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.missing, r.answered = make(map[int]bool, n), make(chan struct{})
	for i := range n {
		r.missing[i] = true
	}
}

// of returns the callback of instance i.
func (r *rollCall) of(i, total int) func(libcluster.State) {
	return func(s libcluster.State) {
		if !s.Active() || s.Total != total {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.missing[i] {
			return
		}
		delete(r.missing, i)
		if len(r.missing) == 0 {
			close(r.answered)
		}
	}
}

// BenchmarkJoinSeenByAll measures the time from one join until all of a crowd
// have been told of it, beside the floor: one more bare client that is granted a lease and
// puts a key under it, until as many that watch have seen it. Both include connecting.
func BenchmarkJoinSeenByAll(b *testing.B) {
	for _, n := range []int{3, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { joinSeenBy(b, n) })
	}
}

func joinSeenBy(b *testing.B, n int) {
	var all rollCall
	cluster := key(b)
	instances := make([]*libcluster.Cluster, n)
	for i := range instances {
		instances[i] = quiet(b, cluster, all.of(i, n+1))
	}
	join(b, instances)
	b.Cleanup(func() { leaveAll(b, instances) })

	prefix := "/" + key(b) + "/"
	clients, watches := make([]*clientv3.Client, n), make([]clientv3.WatchChan, n)
	for i := range clients {
		clients[i] = bare(b)
		watches[i] = clients[i].Watch(b.Context(), prefix, clientv3.WithPrefix())
	}
	b.Cleanup(func() { closeAll(clients) })

	compare(b,
		func() time.Duration {
			require.Eventually(b, func() bool {
				for _, i := range instances {
					if i.State().Total != n {
						return false
					}
				}
				return true
			}, patience, time.Millisecond)
			newcomer := []*libcluster.Cluster{quiet(b, cluster, nil)}
			all.begin(n)
			began := time.Now()
			join(b, newcomer)
			<-all.answered
			took := time.Since(began)
			leaveAll(b, newcomer)
			return took
		},
		func() time.Duration {
			began := time.Now()
			newcomer := bare(b)
			lease := grant(b, newcomer)
			put(b, newcomer, prefix, 0, clientv3.WithLease(lease))
			var seen sync.WaitGroup
			for _, w := range watches {
				seen.Go(func() { await(b, w, 1) })
			}
			seen.Wait()
			took := time.Since(began)
			_, err := newcomer.Revoke(b.Context(), lease)
			require.NoError(b, err)
			for _, w := range watches {
				await(b, w, 1)
			}
			newcomer.Close()
			return took
		})
}

// BenchmarkInstanceAtRest reports what one joined instance holds.
func BenchmarkInstanceAtRest(b *testing.B) {
	const n = 20
	for b.Loop() {
		instances := make([]*libcluster.Cluster, n)
		cluster := key(b)
		before, heap := runtime.NumGoroutine(), heapInUse()
		for i := range instances {
			instances[i] = quiet(b, cluster, nil)
		}
		join(b, instances)
		require.Eventually(b, func() bool { return instances[0].State().Total == n }, patience, time.Millisecond)
		b.ReportMetric(float64(runtime.NumGoroutine()-before)/n, "goroutines/instance")
		b.ReportMetric(float64(heapInUse()-heap)/n, "heap-B/instance")
		leaveAll(b, instances)
	}
}

// BenchmarkRest reports what 40 joined instances cost while nothing changes: the time that this
// process has used processors for, which includes etcd's unless that is a process of its own. The
// floor is as many bare clients that keep a lease of the same TTL alive, as etcd's client does it.
func BenchmarkRest(b *testing.B) {
	const n = 40
	b.Run("floor", func(b *testing.B) {
		cluster := key(b)
		for range n {
			c := bare(b)
			defer c.Close()
			lease, err := c.Grant(b.Context(), int64(libcluster.DefaultTTL.Seconds()))
			require.NoError(b, err)
			_, err = c.Put(b.Context(), fmt.Sprintf("%s%x", cluster, lease.ID), "1", clientv3.WithLease(lease.ID))
			require.NoError(b, err)
			answers, err := c.KeepAlive(b.Context(), lease.ID)
			require.NoError(b, err)
			go func() {
				for range answers {
				}
			}()
		}
		rest(b)
	})
	for _, mode := range allModes {
		b.Run(mode.String(), func(b *testing.B) {
			var sent cost
			cluster, client := key(b), sent.client(b)
			instances := make([]*libcluster.Cluster, n)
			for i := range instances {
				var err error
				instances[i], err = libcluster.New(libcluster.Config{
					Key: cluster, Registry: libcluster.EtcdConfig{Client: client()}, Mode: mode, Partitions: partitionsIn(mode),
				})
				require.NoError(b, err)
			}
			join(b, instances)
			for _, i := range instances {
				require.Eventually(b, func() bool { return isWhole(i, n) }, patience, time.Millisecond)
			}
			messages := sent.messages.Load()
			lasted := rest(b)
			b.ReportMetric(float64(sent.messages.Load()-messages)/lasted.Seconds()/n, "messages/s/instance")
			leaveAll(b, instances)
		})
	}
}

// rest reports what it costs that nothing changes, and returns for how long it was tried.
func rest(b *testing.B) (lasted time.Duration) {
	used, began := processorTime(b), time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	lasted = time.Since(began)
	b.ReportMetric(0, "ns/op") // it says nothing
	b.ReportMetric(float64((processorTime(b)-used).Milliseconds())/lasted.Seconds(), "cpu-ms/s")
	return lasted
}

// processorTime is for how long this process has used processors.
func processorTime(b *testing.B) time.Duration {
	var used unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// compare runs ours and the floor by turns and reports the ratio of the medians.
func compare(b *testing.B, ours, floor func() time.Duration) {
	b.Helper()
	var took [2][]time.Duration
	for b.Loop() {
		took[0] = append(took[0], ours())
		took[1] = append(took[1], floor())
	}
	us, bottom := median(took[0]), median(took[1])
	b.ReportMetric(float64(us.Microseconds())/1e3, "ours-ms")
	b.ReportMetric(float64(bottom.Microseconds())/1e3, "floor-ms")
	b.ReportMetric(float64(us)/float64(bottom), "ratio")
}

// quiet makes an instance that reports to nobody but the given callback.
func quiet(b *testing.B, cluster string, called func(libcluster.State)) *libcluster.Cluster {
	b.Helper()
	c, err := libcluster.New(libcluster.Config{
		Key: cluster, Registry: libcluster.Etcd(etcdURL(b)), OnRebalance: called, TTL: time.Minute,
	})
	require.NoError(b, err)
	return c
}

func join(b *testing.B, instances []*libcluster.Cluster) {
	var joining sync.WaitGroup
	for _, c := range instances {
		joining.Go(func() {
			if err := c.Join(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
	joining.Wait()
}

func leaveAll(b *testing.B, instances []*libcluster.Cluster) {
	var leaving sync.WaitGroup
	for _, c := range instances {
		leaving.Go(func() {
			if err := c.Leave(context.Background()); err != nil {
				b.Error(err)
			}
		})
	}
	leaving.Wait()
}

func bare(b *testing.B) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(etcdURL(b), ","), Logger: zap.NewNop()})
	if err != nil {
		b.Error(err)
	}
	return client
}

func closeAll(clients []*clientv3.Client) {
	for _, c := range clients {
		c.Close()
	}
}

// insist repeats a request that etcd is too busy for, a little later.
func insist(b *testing.B, request func() error) {
	for {
		var refused rpctypes.EtcdError
		err := request()
		if err == nil {
			return
		}
		if !errors.As(err, &refused) || refused.Code() != codes.Unavailable && refused.Code() != codes.ResourceExhausted {
			b.Error(err)
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-b.Context().Done():
			b.Error(err)
			return
		}
	}
}

func put(b *testing.B, client *clientv3.Client, prefix string, n int, options ...clientv3.OpOption) {
	insist(b, func() error {
		_, err := client.Put(b.Context(), fmt.Sprintf("%s%032d", prefix, n), "1", options...)
		return err
	})
}

func grant(b *testing.B, client *clientv3.Client) (id clientv3.LeaseID) {
	insist(b, func() error {
		lease, err := client.Grant(b.Context(), 60)
		if err == nil {
			id = lease.ID
		}
		return err
	})
	return id
}

// await waits for so many keys. One that was put again counts once.
func await(b *testing.B, watch clientv3.WatchChan, keys int) {
	for seen := 0; seen < keys; {
		answer, open := <-watch
		if !open {
			b.Error("a watch has ended")
			return
		}
		for _, e := range answer.Events {
			if !e.IsModify() {
				seen++
			}
		}
	}
}

func revision(b *testing.B) int64 {
	got, err := etcdClient(b).Get(b.Context(), "/")
	require.NoError(b, err)
	return got.Header.Revision
}

func remove(b *testing.B, prefix string) {
	_, err := etcdClient(b).Delete(b.Context(), prefix, clientv3.WithPrefix())
	require.NoError(b, err)
}
