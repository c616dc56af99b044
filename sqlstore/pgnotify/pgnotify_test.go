//go:build databases

package pgnotify_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testetcd"
	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
	"github.com/libcluster/libcluster/sqlstore/pgnotify"
)

// never is how often a watch looks that must hear.
const never = 100 * time.Hour

func TestMain(m *testing.M) { testsql.Main(m) }

func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testetcd.Patience)
	t.Cleanup(cancel)
	return ctx
}

// config has connections of a name of their own.
func config(t *testing.T, url, name string) *pgx.ConnConfig {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	c.RuntimeParams["application_name"] = name
	return c
}

// process is what another process has: a pool and a listener.
type process struct {
	t       *testing.T
	store   *sqlstore.Store
	space   kv.Space
	trouble chan error
	hears   atomic.Bool
}

// start starts one whose pool and whose listener connect as is said.
func start(t *testing.T, pool, listener *pgx.ConnConfig, poll time.Duration) *process {
	t.Helper()
	db := stdlib.OpenDB(*pool)
	t.Cleanup(func() { db.Close() })
	p := &process{t: t, store: sqlstore.Postgres(db), trouble: make(chan error, 100)}
	p.store.Poll = poll
	l := pgnotify.Listener{Config: listener, OnTrouble: func(err error) {
		select {
		case p.trouble <- err:
		default:
		}
	}}
	p.store.Wake = func(ctx context.Context, to sqlstore.Listening) {
		tell := to.Hears
		to.Hears = func(all bool) {
			p.hears.Store(all)
			tell(all)
		}
		l.Listen(ctx, to)
	}
	var err error
	p.space, err = p.store.Open(patience(t), "space")
	require.NoError(t, err)
	t.Cleanup(func() { p.space.Close() })
	return p
}

func (p *process) awaitHearing() {
	p.t.Helper()
	require.Eventually(p.t, p.hears.Load, testetcd.Patience, time.Millisecond)
}

// awaitTrouble returns why the listener hears nothing.
func (p *process) awaitTrouble() error {
	p.t.Helper()
	select {
	case err := <-p.trouble:
		return err
	case <-patience(p.t).Done():
		require.FailNow(p.t, "the listener has no trouble")
		return nil
	}
}

func (p *process) watch() kv.Watch {
	p.t.Helper()
	w, err := p.space.Watch(patience(p.t), "", 0)
	require.NoError(p.t, err)
	return w
}

// follow returns the keys that a watch tells of, which waits already when most of them are
// put. It is closed if one takes too long.
func (p *process) follow() <-chan string {
	p.t.Helper()
	w, seen := p.watch(), make(chan string)
	var following sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	p.t.Cleanup(func() {
		cancel()
		following.Wait()
	})
	following.Go(func() {
		defer close(seen)
		for {
			within, end := context.WithTimeout(ctx, testetcd.Patience)
			changes, err := w.Next(within)
			end()
			if err != nil {
				return
			}
			for _, c := range changes.Records {
				select {
				case seen <- c.Key:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	return seen
}

func (p *process) put(key string) {
	p.t.Helper()
	_, err := p.space.Commit(patience(p.t), kv.Tx{Put: []kv.Record{{Key: key}}})
	require.NoError(p.t, err)
}

// sees waits until a watch tells of a key.
func sees(t *testing.T, w kv.Watch, key string) {
	t.Helper()
	for {
		changes, err := w.Next(patience(t))
		require.NoError(t, err, "waiting for %s", key)
		if changes.Records[len(changes.Records)-1].Key == key {
			return
		}
	}
}

func connections(t *testing.T, db *sql.DB, name string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow(`SELECT count(*) FROM pg_stat_activity WHERE application_name = $1`, name).Scan(&n))
	return n
}

func TestCommitOfAnotherProcessIsHeard(t *testing.T) {
	url := testsql.Postgres(t)
	a := start(t, config(t, url, "a"), config(t, url, "a"), never)
	seen := start(t, config(t, url, "b"), config(t, url, "b"), never).follow()
	for n := range 20 {
		a.put(fmt.Sprint(n))
		require.Equal(t, fmt.Sprint(n), <-seen)
	}
}

func TestListenerThatIsCutOffListensAgain(t *testing.T) {
	url := testsql.Postgres(t)
	admin := testsql.Open(t, "pgx", url)
	a := start(t, config(t, url, "a"), config(t, url, "a"), never)
	b := start(t, config(t, url, "b"), config(t, url, "listener"), never)
	seen := b.follow()
	for n := range 5 {
		b.awaitHearing()
		_, err := admin.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'listener'`)
		require.NoError(t, err)
		require.ErrorContains(t, b.awaitTrouble(), "listening")
		a.put(fmt.Sprint("while it is deaf ", n))
		require.Equal(t, fmt.Sprint("while it is deaf ", n), <-seen)
	}
}

func TestListenerEndsWithTheLastSpace(t *testing.T) {
	url := testsql.Postgres(t)
	admin := testsql.Open(t, "pgx", url)
	p := start(t, config(t, url, "pool"), config(t, url, "listener"), never)
	p.awaitHearing()
	require.Equal(t, 1, connections(t, admin, "listener"))
	another, err := p.store.Open(patience(t), "another")
	require.NoError(t, err)
	require.NoError(t, p.space.Close())
	require.True(t, p.hears.Load())
	require.NoError(t, another.Close())
	require.Eventually(t, func() bool { return connections(t, admin, "listener") == 0 }, testetcd.Patience, 10*time.Millisecond)
	require.Empty(t, p.trouble)
}

func TestListenerThatHearsNothingKnows(t *testing.T) {
	url := testsql.Postgres(t)
	deaf := config(t, url, "listener")
	deaf.DialFunc = muffled
	a := start(t, config(t, url, "a"), config(t, url, "a"), never)
	b := start(t, config(t, url, "b"), deaf, 10*time.Millisecond)
	w := b.watch()
	require.ErrorContains(t, b.awaitTrouble(), "PgBouncer")
	require.False(t, b.hears.Load())
	a.put("one")
	sees(t, w, "one")
}

func TestServerThatIsNotThereIsTrouble(t *testing.T) {
	url := testsql.Postgres(t)
	absent := config(t, "postgres://someone:hunter2@127.0.0.1:1/db", "listener")
	for _, listener := range []*pgx.ConnConfig{absent, nil} {
		b := start(t, config(t, url, "b"), listener, 10*time.Millisecond)
		err := b.awaitTrouble()
		require.NotContains(t, err.Error(), "hunter2")
		w := b.watch()
		start(t, config(t, url, "a"), config(t, url, "a"), never).put("one")
		sees(t, w, "one")
	}
}

func TestStoreNeedsNoDriver(t *testing.T) {
	require.NotContains(t, needs(t, "github.com/libcluster/libcluster/sqlstore"), "jackc")
}
