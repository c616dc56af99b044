package libcluster_test

import (
	"flag"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
)

var busyLoops = flag.Int("busy", 2, "how many processes use a processor in BenchmarkCrowdOnABusyMachine")

// BenchmarkCrowdOnABusyMachine measures, beside two processes that do nothing but use
// a processor, the time from the first of many that join, with a connection each, until
// all of them report the whole total, or in mode cooperative hold partitions, and what it has cost etcd: two proposals for each
// are the least, a lease and a record. The floor is as many bare clients that each
// connect, watch, and put a key under a lease.
func BenchmarkCrowdOnABusyMachine(b *testing.B) {
	for range *busyLoops {
		loop := exec.Command("sh", "-c", "while :; do :; done")
		require.NoError(b, loop.Start())
		b.Cleanup(func() { _ = loop.Process.Kill(); _ = loop.Wait() })
	}
	for _, mode := range allModes {
		b.Run(mode.String(), func(b *testing.B) {
			var took, floor []time.Duration
			proposed := 0
			for b.Loop() {
				floor = append(floor, strangersJoin(b, *crowdSize))
				instances := make([]*libcluster.Cluster, *crowdSize)
				var all rollCall
				cluster := key(b)
				for i := range instances {
					var err error
					instances[i], err = libcluster.New(libcluster.Config{
						Key: cluster, Registry: libcluster.Etcd(etcdURL(b)), Mode: mode, Partitions: partitionsIn(mode),
						OnRebalance: all.of(i, totalOf(mode, *crowdSize)),
					})
					require.NoError(b, err)
				}
				all.begin(*crowdSize)
				before, began := proposals(b), time.Now()
				join(b, instances)
				<-all.answered
				took = append(took, time.Since(began))
				proposed += proposals(b) - before
				leaveAll(b, instances)
			}
			b.ReportMetric(ms(median(took)), "ms")
			b.ReportMetric(ms(median(floor)), "floor-ms")
			b.ReportMetric(float64(proposed)/float64(b.N), "proposals")
		})
	}
}

// strangersJoin is the floor.
func strangersJoin(b *testing.B, n int) time.Duration {
	prefix, from := "/"+key(b)+"/", revision(b)+1
	clients := make([]*clientv3.Client, n)
	began := time.Now()
	var seen sync.WaitGroup
	for i := range clients {
		seen.Go(func() {
			client := bare(b)
			clients[i] = client
			watch := client.Watch(b.Context(), prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
			put(b, client, prefix, i, clientv3.WithLease(grant(b, client)))
			await(b, watch, n)
		})
	}
	seen.Wait()
	took := time.Since(began)
	remove(b, prefix)
	closeAll(clients)
	return took
}

// proposals returns how many changes etcd has agreed on.
func proposals(b *testing.B) int {
	status, err := etcdClient(b).Status(b.Context(), etcdURL(b))
	require.NoError(b, err)
	return int(status.RaftAppliedIndex)
}
