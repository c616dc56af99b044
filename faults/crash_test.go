//go:build linux && faults

package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
)

// shadow is a bare lease with a key, renewed whenever a member renews its own:
// what etcd by itself makes of a crash.
type shadow struct {
	key     string
	renew   chan struct{}
	stopped atomic.Bool
	lastAt  atomic.Int64 // when the last request arrived
}

// quiet is the least silence before a heartbeat's first request, the keep-alive.
// Those that follow within it are the rest of the same heartbeat.
const quiet = 50 * time.Millisecond

// request is told of every request of the member.
func (s *shadow) request() {
	if at := int64(boot()); at-s.lastAt.Swap(at) > int64(quiet) && !s.stopped.Load() {
		select {
		case s.renew <- struct{}{}:
		default:
		}
	}
}

func newShadow(t *testing.T, client *clientv3.Client, key string, ttl time.Duration) *shadow {
	t.Helper()
	lease, err := client.Grant(t.Context(), int64(ttl/time.Second))
	require.NoError(t, err)
	_, err = client.Put(t.Context(), key, "", clientv3.WithLease(lease.ID))
	require.NoError(t, err)
	s := &shadow{key: key, renew: make(chan struct{}, 1)}
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		for {
			select {
			case <-s.renew:
				_, _ = client.KeepAliveOnce(ctx, lease.ID) // after the crash it may be gone
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return s
}

func TestCrashIsKnownWhenABareLeaseWouldHaveExpired(t *testing.T) {
	for _, ttl := range []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second} {
		t.Run(fmt.Sprint("TTL ", ttl), func(t *testing.T) {
			t.Parallel()
			crashTrials(t, ttl, trials(3, 100))
		})
	}
}

// crashTrials kills n members, some at a time, beside three that survive.
func crashTrials(t *testing.T, ttl time.Duration, n int) {
	etcd := startServers(t, 1)
	survivors := joinMany(t, 3, func(i int) libcluster.Config {
		return libcluster.Config{ID: fmt.Sprintf("survivor%d", i), TTL: ttl, Registry: libcluster.Etcd(etcd.urls()...)}
	})
	w, _ := observe(t, etcd.urls()...)
	row := &figures{fault: fmt.Sprintf("kill -9 of a member, TTL %v", ttl)}
	var bare, apart []time.Duration
	for row.trials < n {
		crashers := make([]*crasher, min(n-row.trials, 8))
		for i := range crashers {
			crashers[i] = newCrasher(t, etcd, w, fmt.Sprintf("crasher%d", row.trials+i), ttl)
		}
		await(t, patience, "the survivors to see all", func() bool {
			return agree(survivors, len(survivors)+len(crashers))
		})
		lasts(ttl / 4) // each shadow is renewed with its member meanwhile
		for _, c := range crashers {
			lasts(rand.N(ttl / 16)) // anywhere between two heartbeats
			c.shadow.stopped.Store(true)
			c.killed = boot()
			c.kill()
		}
		for _, c := range crashers {
			own := w.awaitDeletion(2*ttl+patience, prefix+c.ID, c.killed)
			bareGone := w.awaitDeletion(patience, c.shadow.key, c.killed)
			all := awaitCalled(t, survivors, c.ID)
			last, _ := c.lastAct(w.successor(own))
			row.margins = append(row.margins, own.at-last.at)
			row.whole = append(row.whole, all-c.killed)
			bare, apart = append(bare, bareGone.at-c.killed), append(apart, all-bareGone.at)
		}
		row.trials += len(crashers)
	}
	row.report(t)
	t.Logf("| a bare lease beside it, TTL %v | deleted after: median %s, worst %s | re-balanced later than that by: median %s, worst %s |",
		ttl, median(bare), short(slices.Max(bare)), median(apart), short(slices.Max(apart)))
}

// crasher is a child with a shadow.
type crasher struct {
	*child
	shadow *shadow
	killed time.Duration
}

func newCrasher(t *testing.T, etcd *servers, w *witness, id string, ttl time.Duration) *crasher {
	t.Helper()
	s := newShadow(t, w.client, "shadow/"+id, ttl)
	l := startLine(t, etcd.all[0].client, s.request)
	return &crasher{child: joinChild(t, part{URLs: []string{l.url()}, ID: id, TTL: ttl}), shadow: s}
}

// awaitCalled returns when the last of the members was called back without id.
func awaitCalled(t *testing.T, members []*member, id string) (last time.Duration) {
	t.Helper()
	for _, m := range members {
		await(t, patience, fmt.Sprintf("%s to be called back without %s", m.ID(), id), func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			at, ok := m.missed[id]
			last = max(last, at)
			return ok
		})
	}
	return last
}

// agree reports whether all members count so many workers, and have been told.
func agree(members []*member, total int) bool {
	for _, m := range members {
		if s := m.State(); s.Total != total || !m.hasHeard(s) {
			return false
		}
	}
	return true
}

func TestFrozenMemberDoesNotActWhenItWakes(t *testing.T) {
	etcd := startServers(t, 1)
	survivor := join(t, libcluster.Config{ID: "survivor", TTL: shortTTL, Registry: libcluster.Etcd(etcd.urls()...)})
	w, _ := observe(t, etcd.urls()...)
	row := &figures{fault: "SIGSTOP of a member past its TTL"}
	frozen := make([]*child, min(trials(4, 200), 8))
	for i := range frozen {
		frozen[i] = joinChild(t, part{URLs: etcd.urls(), ID: fmt.Sprintf("frozen%d", i), TTL: shortTTL})
	}
	total := len(frozen) + 1
	for row.trials < trials(4, 200) {
		await(t, patience, "all to have joined", func() bool { return survivor.State().Total == total })
		lasts(rand.N(shortTTL / 4)) // anywhere between two heartbeats
		stopped := boot()
		for _, c := range frozen {
			c.freeze()
		}
		gone := make([]event, len(frozen))
		for i, c := range frozen {
			gone[i] = w.awaitDeletion(patience, prefix+c.ID, stopped)
		}
		woken := boot()
		for _, c := range frozen {
			c.thaw()
		}
		await(t, patience, "all to be back", func() bool { return survivor.State().Total == total })
		row.whole = append(row.whole, boot()-woken)
		for i, c := range frozen {
			await(t, patience, c.ID+" to act again", func() bool {
				acts := c.acts()
				return acts[len(acts)-1].generation > gone[i].revision
			})
			w.catchUp() // or the new record is not known yet, and this act would be one on the old
			row.judgeChild(t, c, w, gone[i])
		}
		row.trials += len(frozen)
	}
	row.report(t)
}

// judgeChild looks for acts on a place that was lost. That includes the first after
// waking, which may also be on a new one: rejoining takes some milliseconds.
func (f *figures) judgeChild(t *testing.T, c *child, w *witness, gone event) {
	t.Helper()
	last, _ := c.lastAct(w.successor(gone))
	margin := gone.at - last.at
	f.margins = append(f.margins, margin)
	if margin <= 0 {
		f.late++
		t.Errorf("%s acted as index %d of %d %v after its record was deleted", c.ID, last.index, last.total, -margin)
	}
}
