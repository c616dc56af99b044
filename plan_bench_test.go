package libcluster_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
)

// partitionsIn is how many partitions there are in a benchmark of all modes.
func partitionsIn(mode libcluster.Mode) int {
	if mode == libcluster.ModeCooperative {
		return 4096
	}
	return 0
}

// totalOf is the total that n instances report.
func totalOf(mode libcluster.Mode, n int) int { return cmp.Or(partitionsIn(mode), n) }

// isWhole reports whether an instance is active as one of n.
func isWhole(c *libcluster.Cluster, n int) bool {
	v := c.View()
	return v.State.Active() && len(v.Members) == n
}

func inMode(b *testing.B, cluster string, mode libcluster.Mode, called func(libcluster.State)) *libcluster.Cluster {
	b.Helper()
	c, err := libcluster.New(libcluster.Config{
		Key: cluster, Registry: libcluster.Etcd(etcdURL(b)), Mode: mode, TTL: time.Minute, OnRebalance: called,
		Partitions: partitionsIn(mode),
	})
	require.NoError(b, err)
	return c
}

// BenchmarkPriceOfAMode measures the time from a join until everybody, and the
// newcomer, is active again, for each mode in turn. In mode cooperative everybody stays active,
// and so that is when the newcomer is. Beside that it measures the round trip of one
// linearizable read, and beside a word: what is written until somebody else's watch
// tells of it, which is what a change consists of.
func BenchmarkPriceOfAMode(b *testing.B) {
	for _, n := range []int{3, 30, 80} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all := make([]rollCall, len(allModes))
			keys := make([]string, len(allModes))
			crowds := make([][]*libcluster.Cluster, len(allModes))
			for m, mode := range allModes {
				keys[m] = key(b) + mode.String()
				for i := range n {
					crowds[m] = append(crowds[m], inMode(b, keys[m], mode, all[m].of(i+1, totalOf(mode, n+1))))
				}
				join(b, crowds[m])
			}
			client := etcdClient(b)
			said := key(b)
			hears := etcdClient(b).Watch(b.Context(), said, clientv3.WithCreatedNotify())
			<-hears
			took := make([][]time.Duration, len(allModes))
			var trips, words []time.Duration
			for b.Loop() {
				for m, mode := range allModes {
					for _, c := range crowds[m] {
						require.Eventually(b, func() bool { return isWhole(c, n) }, patience, time.Millisecond)
					}
					newcomer := []*libcluster.Cluster{inMode(b, keys[m], mode, all[m].of(0, totalOf(mode, n+1)))}
					all[m].begin(n + 1)
					if mode == libcluster.ModeCooperative {
						all[m].begin(1)
					}
					began := time.Now()
					join(b, newcomer)
					<-all[m].answered
					took[m] = append(took[m], time.Since(began))
					leaveAll(b, newcomer)
				}
				began := time.Now()
				_, err := client.Get(b.Context(), "x")
				require.NoError(b, err)
				trips = append(trips, time.Since(began))
				began = time.Now()
				_, err = client.Put(b.Context(), said, "")
				require.NoError(b, err)
				<-hears
				words = append(words, time.Since(began))
			}
			trip, word := median(trips), median(words)
			direct := median(took[0])
			b.ReportMetric(ms(trip), "trip-ms")
			b.ReportMetric(ms(word), "word-ms")
			for m, mode := range allModes {
				b.ReportMetric(ms(median(took[m])), mode.String()+"-ms")
				if m > 0 {
					b.ReportMetric(float64(median(took[m])-direct)/float64(trip), mode.String()+"-more-trips")
					b.ReportMetric(float64(median(took[m])-direct)/float64(word), mode.String()+"-more-words")
				}
				leaveAll(b, crowds[m])
			}
		})
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

var (
	crowdSize = flag.Int("crowd", 300, "how many instances join at once in BenchmarkCrowd")
	noFloor   = flag.Bool("no-floor", false, "leave the floor out of BenchmarkCrowd, which takes long")
)

// BenchmarkCrowd measures the time from the first of many that join until all of
// them report the whole total, or in mode cooperative hold partitions, with a plan and directly, beside the floor: as many
// bare clients that all watch and all put. It counts what etcd has had to agree on; a lease
// and a record for each are the least, and with a plan whether each may write it, since the
// clients are the user's own. Of the rest, claims are tries to coordinate, and plans tries to
// write the next plan. Beware of many on a busy machine: in direct mode 800
// send each other 640,000 messages.
func BenchmarkCrowd(b *testing.B) {
	for _, mode := range allModes {
		b.Run(mode.String(), func(b *testing.B) {
			var took, floor []time.Duration
			var proposed, claims, plans int
			for b.Loop() {
				var sent cost
				before := proposals(b)
				took = append(took, crowdJoins(b, mode, *crowdSize, sent.client(b), func() {
					proposed += proposals(b) - before
					claims += int(sent.claims.Load())
					plans += int(sent.plans.Load())
				}))
				if !*noFloor {
					floor = append(floor, crowdPuts(b, *crowdSize))
				}
			}
			b.ReportMetric(0, "ns/op") // it says nothing
			b.ReportMetric(ms(median(took)), "ms")
			b.ReportMetric(float64(proposed)/float64(b.N), "proposals")
			b.ReportMetric(float64(claims)/float64(b.N), "claims")
			b.ReportMetric(float64(plans)/float64(b.N), "plans")
			if !*noFloor {
				b.ReportMetric(ms(median(floor)), "floor-ms")
				b.ReportMetric(float64(median(floor))/float64(median(took)), "times-faster")
			}
		})
	}
}

// crowdJoins has n instances join that have connected before, as the floor's clients
// have.
func crowdJoins(b *testing.B, mode libcluster.Mode, n int, client func() *clientv3.Client, joined func()) time.Duration {
	var all rollCall
	cluster := key(b) + mode.String()
	clients, instances := make([]*clientv3.Client, n), make([]*libcluster.Cluster, n)
	for i := range instances {
		clients[i] = client()
		connect(b, clients[i])
		var err error
		instances[i], err = libcluster.New(libcluster.Config{
			Key: cluster, Registry: libcluster.EtcdConfig{Client: clients[i]}, Mode: mode, TTL: time.Minute,
			OnRebalance: all.of(i, totalOf(mode, n)), Partitions: partitionsIn(mode),
		})
		require.NoError(b, err)
	}
	all.begin(n)
	began := time.Now()
	join(b, instances)
	<-all.answered
	took := time.Since(began)
	joined()
	var leaving sync.WaitGroup
	for _, c := range instances {
		leaving.Go(func() { _ = c.Leave(context.Background()) }) // 800 at once may take longer than it waits
	}
	leaving.Wait()
	closeAll(clients)
	return took
}

func connect(b *testing.B, client *clientv3.Client) {
	_, err := client.Get(b.Context(), "x")
	require.NoError(b, err)
}

// crowdPuts is the floor: each opens a watch and puts a key.
func crowdPuts(b *testing.B, n int) time.Duration {
	prefix := "/" + key(b) + "/"
	clients := make([]*clientv3.Client, n)
	for i := range clients {
		clients[i] = bare(b)
		connect(b, clients[i])
	}
	from := revision(b) + 1
	began := time.Now()
	var seen sync.WaitGroup
	for i, client := range clients {
		seen.Go(func() {
			watch := client.Watch(b.Context(), prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
			put(b, client, prefix, i)
			await(b, watch, n)
		})
	}
	seen.Wait()
	took := time.Since(began)
	remove(b, prefix)
	closeAll(clients)
	return took
}
