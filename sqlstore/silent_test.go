//go:build databases

package sqlstore_test

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

// throughALine has a test run on a store that is reached through a line.
func throughALine(t *testing.T, test func(t *testing.T, line *proxy, store, direct *sqlstore.Store)) {
	t.Helper()
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			url := s.url(t)
			address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(url)
			line := newProxy(t, address)
			db := testsql.Open(t, s.driver, strings.Replace(url, address, line.address(), 1))
			db.SetMaxIdleConns(1)
			test(t, line, s.store(db), s.store(testsql.Open(t, s.driver, url)))
		})
	}
}

// brief is the time of a lease that has others be asked soon for an answer.
const brief = 500 * time.Millisecond

// Nothing tells of a line that has died, and only another one can carry the next heartbeat.
func TestHeartbeatsGoOnBesideAConnectionThatHasGoneSilent(t *testing.T) {
	t.Parallel()
	throughALine(t, func(t *testing.T, line *proxy, store, _ *sqlstore.Store) {
		space := open(t, store)
		owner := begin(t, space, long)
		begin(t, space, brief)
		_, err := space.Renew(patience(t), owner)
		require.NoError(t, err)
		line.mute()
		ctx, cancel := context.WithCancel(patience(t))
		defer cancel()
		var renewing sync.WaitGroup
		var renewed, read atomic.Bool
		require.Eventually(t, func() bool { // as heartbeats are, one beside the other
			renewing.Go(func() {
				if _, err := space.Renew(ctx, owner); err == nil {
					renewed.Store(true)
				}
			})
			renewing.Go(func() {
				if _, _, err := space.Get(ctx, "k"); err == nil {
					read.Store(true)
				}
			})
			return renewed.Load() && read.Load()
		}, watchdog, 50*time.Millisecond)
		cancel()
		renewing.Wait()
	})
}

// The application has all connections but the own one, wants more, and a call is slow. Those that wait for it
// do not give up the own connection, which the application would get.
func TestHeartbeatsWaitForASlowOneWhileTheApplicationHasAllOtherConnections(t *testing.T) {
	t.Parallel()
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			const most, wanted = 4, 20
			url := s.url(t)
			db, direct := testsql.Open(t, s.driver, url), testsql.Open(t, s.driver, url)
			db.SetMaxOpenConns(most)
			space := open(t, s.store(db))
			owner := begin(t, space, long)
			begin(t, space, brief)
			slow, err := direct.BeginTx(patience(t), nil)
			require.NoError(t, err)
			_, err = slow.Exec("UPDATE libcluster_lease SET ttl = ttl + 1") // locks all leases
			require.NoError(t, err)
			for range most - 1 {
				held, err := db.Conn(patience(t))
				require.NoError(t, err)
				defer held.Close()
			}
			var wanting sync.WaitGroup
			defer wanting.Wait()
			ctx, over := context.WithCancel(patience(t))
			defer over()
			for range wanted {
				wanting.Go(func() {
					if held, err := db.Conn(ctx); err == nil {
						<-ctx.Done()
						held.Close()
					}
				})
			}
			waiting := func(n int64) func() bool { return func() bool { return db.Stats().WaitCount >= n } }
			require.Eventually(t, waiting(wanted), watchdog, time.Millisecond)
			const renewals = 3
			renewing, ctx := errgroup.WithContext(patience(t))
			for range renewals {
				renewing.Go(func() error { _, err := space.Renew(ctx, owner); return err })
			}
			require.Eventually(t, waiting(wanted+renewals-1), watchdog, time.Millisecond, "they ask for another one")
			require.NoError(t, slow.Rollback())
			require.NoError(t, renewing.Wait())
		})
	}
}

func TestWatchByALineThatHasGoneSilentEndsAndAnotherOneSeesAll(t *testing.T) {
	t.Parallel()
	throughALine(t, func(t *testing.T, line *proxy, store, direct *sqlstore.Store) {
		space, other := open(t, store), open(t, direct)
		begin(t, space, brief)
		at := put(t, other, "before", 0).Revision
		watch, err := space.Watch(patience(t), "", at)
		require.NoError(t, err)
		line.mute()
		ctx := patience(t)
		_, err = watch.Next(ctx)
		require.Error(t, err)
		require.NoError(t, ctx.Err(), "it ends by itself")
		require.NotErrorIs(t, err, kv.ErrMissed)
		put(t, other, "after", 0)
		require.Eventually(t, func() bool {
			if watch, err = space.Watch(patience(t), "", at); err != nil {
				return false
			}
			changes, err := watch.Next(patience(t))
			return err == nil && changes.Records[0].Key == "after"
		}, watchdog, 10*time.Millisecond)
	})
}
