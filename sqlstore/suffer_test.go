//go:build databases

package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/internal/teststore"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

// crew is three instances in exclusive mode, of which no two may act at once.
type crew struct {
	*teststore.Company
	members  []*teststore.Member
	logs     *observer.ObservedLogs
	workers  map[*teststore.Member]int
	total    int
	watching sync.WaitGroup
	stop     context.CancelFunc
	overlaps []string // after leave
}

func newCrew(t *testing.T, url string) *crew {
	t.Helper()
	c := &crew{Company: teststore.NewCompany(t, libcluster.ModeExclusive), workers: map[*teststore.Member]int{}}
	observed, logs := observer.New(zap.WarnLevel)
	c.Logger, c.logs = zap.New(observed), logs
	for i, id := range []string{"a", "b", "c"} {
		m, _ := join(c.Company, onPostgres, url, id, i+1)
		require.NoError(t, m.Join(patience(t)))
		c.members = append(c.members, m)
		c.workers[m] = i + 1
		c.total += i + 1
	}
	c.Tile(c.total, c.members...)
	var ctx context.Context
	ctx, c.stop = context.WithCancel(t.Context())
	t.Cleanup(c.stop)
	c.watching.Go(func() { c.watch(ctx) })
	return c
}

// watch looks for two that act at once.
func (c *crew) watch(ctx context.Context) {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for ctx.Err() == nil {
		<-again.C
		for _, a := range c.members {
			for _, b := range c.members {
				before, other := a.State(), b.State()
				if after := a.State(); a != b && before.Active() && other.Active() && after.Active() &&
					after.Generation == before.Generation && !areApart(before, other) {
					c.overlaps = append(c.overlaps, fmt.Sprintf("%s at %+v and %s at %+v", a.ID(), before, b.ID(), other))
				}
			}
		}
	}
}

// areApart reports whether two may act at once.
func areApart(a, b libcluster.State) bool {
	return a.Total == b.Total && (a.Index+a.Workers <= b.Index || b.Index+b.Workers <= a.Index)
}

// changes has one change its workers, and waits until all have come to agree on that.
func (c *crew) changes() {
	c.Helper()
	m := c.members[c.total%len(c.members)]
	c.total++
	c.workers[m]++
	workers := c.workers[m]
	require.Eventually(c, func() bool {
		return m.SetWorkers(patience(c.T), workers) == nil
	}, watchdog, 10*time.Millisecond)
	c.Tile(c.total, c.members...)
}

// leave has all leave, and fails the test if two have ever acted at once.
func (c *crew) leave() {
	c.Helper()
	for _, m := range c.members {
		require.NoError(c, m.Leave(patience(c.T)))
	}
	c.stop()
	c.watching.Wait()
	require.Empty(c, c.overlaps)
}

func TestPostgresThatIsKilledCostsNoExclusivity(t *testing.T) {
	server := testsql.OwnPostgres(t)
	c := newCrew(t, server.URL())
	for range 3 {
		server.Kill()
		server.Start()
		c.changes()
	}
	c.leave()
}

func TestConnectionsThatAreTerminatedCostNoExclusivity(t *testing.T) {
	server := testsql.OwnPostgres(t)
	c := newCrew(t, server.URL())
	admin := testsql.Open(t, "pgx", server.URL()+"&application_name=admin")
	rows, err := admin.Query(`SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'admin' ORDER BY pid`)
	require.NoError(t, err)
	var pids []int
	for rows.Next() {
		var pid int
		require.NoError(t, rows.Scan(&pid))
		pids = append(pids, pid)
	}
	require.NoError(t, rows.Err())
	require.GreaterOrEqual(t, len(pids), len(c.members))
	for _, pid := range pids {
		exec(t, admin, `SELECT pg_terminate_backend($1)`, pid)
		c.changes()
	}
	c.leave()
}

func TestClockThatIsSteppedCostsNoExclusivity(t *testing.T) {
	server, ahead := testsql.PostgresWithAClock(t)
	c := newCrew(t, server.URL())
	admin := testsql.Open(t, "pgx", server.URL())
	for _, by := range []time.Duration{time.Hour, 0, -time.Hour, time.Minute} {
		step(t, admin, ahead, by)
		c.changes()
	}
	c.leave()
}

// step has the server's clock go ahead of ours by that much, and waits until it does.
func step(t *testing.T, db *sql.DB, ahead func(time.Duration), by time.Duration) {
	t.Helper()
	ahead(by)
	require.Eventually(t, func() bool {
		var now time.Time
		require.NoError(t, db.QueryRow(`SELECT clock_timestamp()`).Scan(&now))
		return (time.Until(now) - by).Abs() < 20*time.Second
	}, watchdog, time.Millisecond, "the server's clock has not been stepped")
}

// By the client's clock the lease has ended from its beginning, and then it never does.
func TestNoClockButTheDatabasesEndsALease(t *testing.T) {
	server, ahead := testsql.PostgresWithAClock(t)
	db := testsql.Open(t, "pgx", server.URL())
	step(t, db, ahead, -time.Hour)
	space := open(t, sqlstore.Postgres(db))
	const ttl = 10 * time.Minute
	owner := begin(t, space, ttl)
	put(t, space, "leased", owner)
	there := func() bool {
		put(t, space, "another", 0) // a commit ends what has had its time
		r, _, err := space.Get(patience(t), "leased")
		require.NoError(t, err)
		return r.Version > 0
	}
	require.True(t, there(), "the client's clock is an hour ahead")
	step(t, db, ahead, 0)
	require.False(t, there(), "the database's clock has come an hour further")

	owner = begin(t, space, ttl)
	put(t, space, "leased", owner)
	require.True(t, there())
	step(t, db, ahead, time.Hour)
	require.False(t, there(), "the client's clock is an hour behind")
	_, err := space.Renew(patience(t), owner)
	require.ErrorIs(t, err, kv.ErrEnded)
}

func TestReplicaThatLaggedBehindAndIsPromotedIsAnotherStore(t *testing.T) {
	primary := testsql.OwnPostgres(t)
	line := newProxy(t, primary.Address())
	c := newCrew(t, strings.Replace(primary.URL(), primary.Address(), line.address(), 1))
	replica := primary.Replica()
	admin := testsql.Open(t, "pgx", replica.URL())
	exec(t, admin, `ALTER SYSTEM SET primary_conninfo = ''`)
	exec(t, admin, `SELECT pg_reload_conf()`)
	require.Eventually(t, func() bool {
		var receivers int
		require.NoError(t, admin.QueryRow(`SELECT count(*) FROM pg_stat_wal_receiver`).Scan(&receivers))
		return receivers == 0
	}, watchdog, 10*time.Millisecond)
	c.changes() // which the replica never learns of
	exec(t, admin, `SELECT pg_promote()`)
	// So that no instance finds a smaller revision than it knows.
	space, err := sqlstore.Postgres(admin).Open(patience(t), "company/production")
	require.NoError(t, err)
	for range 100 {
		put(t, space, "foreign/key", 0)
	}
	require.NoError(t, space.Close())
	primary.Kill()
	line.lead(replica.Address())
	require.Eventually(t, func() bool {
		return len(resets(c.logs)) == len(c.members)
	}, watchdog, 10*time.Millisecond, "not all have noticed")
	c.changes()
	c.leave()
}

// resets returns which instances were fenced since their store is another one.
func resets(logs *observer.ObservedLogs) map[string]bool {
	who := map[string]bool{}
	for _, entry := range logs.All() {
		if fields := entry.ContextMap(); strings.Contains(fmt.Sprint(fields["error"]), libcluster.ErrRegistryReset.Error()) {
			who[fmt.Sprint(fields["instance"])] = true
		}
	}
	return who
}

// In the middle of each call, after each piece that the client sends, the line goes silent.
func TestCallsByALineThatSwallowsEndAndWorkAgain(t *testing.T) {
	const pieces = 6
	url := onPostgres.url(t)
	direct := open(t, sqlstore.Postgres(testsql.Open(t, "pgx", url)))
	address := strings.Split(strings.Split(url, "@")[1], "/")[0]
	line := newProxy(t, address)
	store := sqlstore.Postgres(testsql.Open(t, "pgx", strings.Replace(url, address, line.address(), 1)))
	space := open(t, store)
	owner := begin(t, space, long)
	put(t, direct, "others", 0) // for the watch to find, though it may be the first call
	calls := map[string]func(ctx context.Context) error{
		"Open": func(ctx context.Context) error {
			opened, err := store.Open(ctx, "another")
			if err == nil {
				err = opened.Close()
			}
			return err
		},
		"Begin": func(ctx context.Context) error {
			_, err := space.Begin(ctx, randomOwner(), long)
			return err
		},
		"Renew": func(ctx context.Context) error { _, err := space.Renew(ctx, owner); return err },
		"Get":   func(ctx context.Context) error { _, _, err := space.Get(ctx, "k"); return err },
		"List": func(ctx context.Context) error {
			_, err := space.List(ctx, "", func(kv.Record) error { return nil })
			return err
		},
		"Commit": func(ctx context.Context) error {
			_, err := space.Commit(ctx, kv.Tx{Put: []kv.Record{{Key: "k", Owner: owner}}})
			return err
		},
		"End": func(ctx context.Context) error { return space.End(ctx, 1) },
		"Watch": func(ctx context.Context) error {
			watch, err := space.Watch(ctx, "", 1)
			if err != nil {
				return err
			}
			defer watch.Close()
			_, err = watch.Next(ctx)
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			works := func() bool { return call(patience(t)) == nil } // the first one may find out that its connection has ended
			require.Eventually(t, works, watchdog, 10*time.Millisecond)
			swallowed := 0
			for after := range pieces {
				line.swallowAfter(after)
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				err := call(ctx)
				cancel()
				if err != nil {
					swallowed++
					require.NotErrorIs(t, err, kv.ErrEnded)
					require.NotErrorIs(t, err, kv.ErrRefused)
				}
				line.lead(address)
				put(t, direct, "others", 0) // nobody is held up for ever
				require.Eventually(t, works, watchdog, 10*time.Millisecond)
			}
			require.Positive(t, swallowed)
		})
	}
}
