package gossip_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
)

// BenchmarkThirtyInstances starts 30 in the same instant and reports how long it takes until all
// see all, until all have noticed that a process has ended and that one which is cut off has
// gone, how long Leave takes until all know, and how many bytes a node sends in a second while
// nothing happens: of each packet with 28 for its headers, of each connection what is written.
func BenchmarkThirtyInstances(b *testing.B) {
	const instances = 30
	const rest = 10 * time.Second
	for b.Loop() {
		var net network
		var sent atomic.Int64
		world := gossip.World{Reaches: net.reaches, Sent: func(bytes int) { sent.Add(int64(bytes)) }}
		where := addresses(b, instances)
		registry := keep(gossip.Config{})
		all := make([]*libcluster.Cluster, instances)
		start := time.Now()
		var joining sync.WaitGroup
		for n := range instances {
			registry.Config = at(where[n], where[:3], world)
			all[n] = newCluster(b, fmt.Sprintf("%02d", n), registry.Config, registry.given)
			joining.Go(func() { join(b, all[n]) })
		}
		joining.Wait()
		await := func(some []*libcluster.Cluster, total int, metric string, since time.Time) {
			for _, c := range some {
				eventually(b, metric, func() bool { return c.State().Total == total })
			}
			b.ReportMetric(time.Since(since).Seconds(), metric)
		}
		await(all, instances, "s-all-see-all", start)
		time.Sleep(time.Second) // let all that has come of it be said
		sent.Store(0)
		start = time.Now()
		time.Sleep(rest)
		b.ReportMetric(float64(sent.Load())/time.Since(start).Seconds()/instances, "B/node/s")

		start = time.Now()
		gossip.Kill(registry.session("29"))
		await(all[:29], 29, "s-killed", start)
		start = time.Now()
		leave(b, all[28])
		await(all[:28], 28, "s-left", start)
		start = time.Now()
		net.cut(where[27])
		await(all[:27], 27, "s-cut-off", start)
		net.cut()
		for _, c := range all[:28] {
			leave(b, c)
		}
		b.ReportMetric(0, "ns/op")
	}
}
