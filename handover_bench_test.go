package libcluster_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
)

// handOverModes are the modes in which no two ever act on one partition.
var handOverModes = []libcluster.Mode{libcluster.ModeCooperative, libcluster.ModeExclusive}

// BenchmarkHandOver measures what becomes of partitions when one more instance joins, one
// leaves, and one crashes, in mode cooperative and in mode exclusive by turns. In mode
// exclusive a partition belongs to the worker index Slot(partition, Total). For each mode it
// reports:
//
//	moved            partitions that have another owner afterwards
//	least-moved      how few can move: those of the one that has gone, or a newcomer's share
//	stopped-in-vain  partitions that were stopped, and begun again by the same owner
//	idle-%           of all partitions, those that were without an owner for a while
//	idle-ms          for how long: the median of these, and the worst; and the same in round
//	                 trips, of which each is one put to the same etcd
//
// The application stops at once. The instance that crashes has a TTL of 3 s, and is waited for.
func BenchmarkHandOver(b *testing.B) {
	for _, size := range []struct{ instances, partitions int }{{10, 1000}, {100, 4096}} {
		open := func(b *testing.B) (sites []*site) {
			for _, mode := range handOverModes {
				sites = append(sites, newSite(b, mode, size.instances, size.partitions, func() *clientv3.Client { return bare(b) }))
			}
			return sites
		}
		name := fmt.Sprintf("instances=%d/partitions=%d/", size.instances, size.partitions)
		b.Run(name+"join", func(b *testing.B) {
			sites := open(b)
			results := newHandedOver(b, sites)
			for b.Loop() {
				for i, s := range sites {
					results.change(i, s, s.join)
					s.awaited(s.leave)
				}
			}
			results.report()
		})
		b.Run(name+"leave", func(b *testing.B) {
			sites := open(b)
			results := newHandedOver(b, sites)
			for b.Loop() {
				for i, s := range sites {
					s.awaited(s.join)
					results.change(i, s, s.leave)
				}
			}
			results.report()
		})
		b.Run(name+"crash", func(b *testing.B) {
			results := newHandedOver(b, nil)
			for b.Loop() {
				results.sites = open(b) // newcomers have to wait in a cluster in which they crash again and again
				var both sync.WaitGroup // at the same time, since it lasts
				for i, s := range results.sites {
					both.Go(func() {
						s.awaited(s.joinToCrash)
						results.change(i, s, s.crash)
					})
				}
				both.Wait()
				for _, s := range results.sites {
					s.end()
				}
			}
			results.report()
		})
	}
}

// handedOver is what has become of partitions in all changes of a kind, by site.
type handedOver struct {
	b     *testing.B
	sites []*site
	etcd  *clientv3.Client
	of    [2]struct {
		changes, least, moved, inVain int
		idle, trips                   []time.Duration
	}
}

func newHandedOver(b *testing.B, sites []*site) *handedOver {
	return &handedOver{b: b, sites: sites, etcd: etcdClient(b)}
}

// change makes a change, and adds what has become of the partitions. Before it some puts are
// measured.
func (r *handedOver) change(i int, s *site, do func()) {
	for range 10 {
		began := time.Now()
		if _, err := r.etcd.Put(r.b.Context(), s.key, ""); err != nil {
			r.b.Error(err)
		}
		r.of[i].trips = append(r.of[i].trips, time.Since(began))
	}
	s.begin()
	s.awaited(do)
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := &r.of[i]
	sum.changes++
	sum.least += s.least()
	for p, before := range s.before {
		switch {
		case before != s.owner[p]:
			sum.moved++
		case s.idle[p] > 0:
			sum.inVain++
		}
		if s.idle[p] > 0 {
			sum.idle = append(sum.idle, s.idle[p])
		}
	}
}

func (r *handedOver) report() {
	trip := median(slices.Concat(r.of[0].trips, r.of[1].trips))
	r.b.ReportMetric(0, "ns/op") // it says nothing
	r.b.ReportMetric(ms(trip), "trip-ms")
	for i, s := range r.sites {
		report := func(value float64, what string) { r.b.ReportMetric(value, s.mode.String()+"-"+what) }
		sum, changes := r.of[i], float64(r.of[i].changes)
		report(float64(sum.least)/changes, "least-moved")
		report(float64(sum.moved)/changes, "moved")
		report(float64(sum.inVain)/changes, "stopped-in-vain")
		report(100*float64(len(sum.idle))/changes/float64(s.partitions), "idle-%")
		for what, d := range map[string]time.Duration{"median": median(sum.idle), "worst": slices.Max(sum.idle)} {
			report(ms(d), what+"-idle-ms")
			report(float64(d)/float64(trip), what+"-idle-trips")
		}
	}
}
