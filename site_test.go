package libcluster_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
)

// site is a cluster whose instances hold partitions in one of two modes.
type site struct {
	b          *testing.B
	mode       libcluster.Mode
	key        string
	partitions int
	connect    func() *clientv3.Client
	shared     []*clientv3.Client
	came       int
	present    []*worker

	mu     sync.Mutex // guards what follows
	owner  []string   // by partition; empty: none
	since  []time.Time
	total  map[string]int // by who holds anything: in mode exclusive of how many indexes
	before []string       // the owners before the change
	idle   []time.Duration
}

// worker is an instance.
type worker struct {
	*libcluster.Cluster
	id     string
	leave  func()
	done   chan error
	client *clientv3.Client // of its own, or nil
	dead   bool             // guarded by the site's mutex; it acts no more, whatever it says
}

// siteSize bounds BenchmarkCostOfHandOver.
var siteSize = flag.Int("site", 100, "of how many instances a cluster has at the most in BenchmarkCostOfHandOver")

// perClient is how many instances share a connection.
const perClient = 50

// longTTL is so long that nobody renews while something is measured.
const longTTL = time.Hour

// newSite has so many instances join.
func newSite(b *testing.B, mode libcluster.Mode, instances, partitions int, connect func() *clientv3.Client) *site {
	s := &site{
		b: b, mode: mode, key: key(b) + mode.String(), partitions: partitions, connect: connect,
		owner: make([]string, partitions), since: make([]time.Time, partitions), idle: make([]time.Duration, partitions),
		total: make(map[string]int),
	}
	for i := range instances {
		if i%perClient == 0 {
			s.shared = append(s.shared, connect())
		}
		s.start(s.shared[i/perClient], longTTL)
	}
	s.awaitWhole()
	b.Cleanup(s.end)
	return s
}

// end has all leave.
func (s *site) end() {
	for _, w := range s.present {
		w.leave()
	}
	for _, w := range s.present {
		<-w.done
	}
	closeAll(s.shared)
	s.present, s.shared = nil, nil
}

// start starts an instance.
func (s *site) start(client *clientv3.Client, ttl time.Duration) *worker {
	config := libcluster.Config{
		Key: s.key, ID: fmt.Sprintf("%032x", s.came), Mode: s.mode, TTL: ttl,
		Registry: libcluster.EtcdConfig{Client: client, RequestTimeout: patience},
		Logger:   zap.NewNop(), // whose lines would stand between the results
	}
	if s.mode == libcluster.ModeCooperative {
		config.Partitions = s.partitions
	}
	c, err := libcluster.New(config)
	require.NoError(s.b, err)
	s.came++
	ctx, cancel := context.WithCancel(context.Background())
	w := &worker{Cluster: c, id: config.ID, leave: cancel, done: make(chan error, 1)}
	s.present = append(s.present, w)
	go func() {
		if s.mode == libcluster.ModeCooperative {
			w.done <- c.RunPartitions(ctx, func(ctx context.Context, p libcluster.Partition) error {
				return s.work(ctx, w, 0, []int{p.Number})
			})
			return
		}
		w.done <- c.Run(ctx, func(ctx context.Context, state libcluster.State) error {
			var mine []int
			for p := range s.partitions {
				if state.Holds(libcluster.Slot(p, state.Total)) {
					mine = append(mine, p)
				}
			}
			return s.work(ctx, w, state.Total, mine)
		})
	}()
	return w
}

// work is what an instance does with partitions.
func (s *site) work(ctx context.Context, w *worker, total int, mine []int) error {
	s.mu.Lock()
	s.total[w.id] = total
	for _, p := range mine {
		if !s.since[p].IsZero() {
			s.idle[p] += time.Since(s.since[p])
		}
		s.owner[p], s.since[p] = w.id, time.Time{}
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !w.dead {
		s.drop(w, mine)
	}
	return nil
}

func (s *site) drop(w *worker, mine []int) {
	for _, p := range mine {
		s.owner[p], s.since[p] = "", time.Now()
	}
	if s.mode == libcluster.ModeExclusive {
		delete(s.total, w.id)
	}
}

// least returns how few partitions can have moved in the change. The caller holds the mutex.
func (s *site) least() (n int) {
	gone := make(map[string]bool) // and who had any
	for _, id := range s.before {
		gone[id] = !slices.ContainsFunc(s.present, func(w *worker) bool { return w.id == id })
		if gone[id] {
			n++
		}
	}
	if len(s.present) > len(gone) {
		n += s.partitions / len(s.present)
	}
	return n
}

// begin begins a change.
func (s *site) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.idle = slices.Clone(s.owner), make([]time.Duration, s.partitions)
}

// awaited makes a change, and returns when all partitions are held as they should be.
func (s *site) awaited(change func()) {
	change()
	s.awaitWhole()
}

func (s *site) awaitWhole() {
	require.Eventually(s.b, s.whole, patience, time.Millisecond)
}

// whole reports whether all who are present have their share, and each partition has an owner.
func (s *site) whole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make(map[string]int)
	for _, id := range s.owner {
		counts[id]++
	}
	for _, w := range s.present {
		if s.mode == libcluster.ModeExclusive && s.total[w.id] != len(s.present) ||
			s.mode == libcluster.ModeCooperative && counts[w.id] < s.partitions/len(s.present) {
			return false
		}
	}
	return counts[""] == 0 && len(counts) <= len(s.present)
}

// awaitHeard waits until all who are present have heard of the same plan.
func (s *site) awaitHeard() {
	require.Eventually(s.b, func() bool {
		differs := func(w *worker) bool { return w.State().Generation != s.present[0].State().Generation }
		return !slices.ContainsFunc(s.present, differs)
	}, patience, time.Millisecond)
}

func (s *site) join() { s.start(s.shared[0], longTTL) }

// middle is who leaves.
func (s *site) middle() int { return len(s.present) / 2 }

func (s *site) leave() {
	w := s.present[s.middle()]
	s.present = slices.Delete(s.present, s.middle(), s.middle()+1)
	w.leave()
	if err := <-w.done; err != nil {
		s.b.Error(err)
	}
}

// joinToCrash starts one whose connection is its own.
func (s *site) joinToCrash() {
	client := s.connect()
	s.start(client, 3*time.Second).client = client
}

// crash has the last one vanish.
func (s *site) crash() {
	last := len(s.present) - 1
	w := s.present[last]
	s.present = s.present[:last]
	s.mu.Lock()
	var mine []int
	for p, id := range s.owner {
		if id == w.id {
			mine = append(mine, p)
		}
	}
	w.dead = true
	s.drop(w, mine)
	s.mu.Unlock()
	w.client.Close()
	w.leave()
	<-w.done // with an error: it cannot say that it leaves
}
