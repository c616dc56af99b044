package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

// killOthers ends all other connections to the database.
func killOthers(t *testing.T, db *sql.DB) {
	t.Helper()
	ctx := patience(t)
	own, err := db.Conn(ctx)
	require.NoError(t, err)
	defer own.Close()
	if systemOf(t).name == onPostgres.name {
		_, err := own.ExecContext(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		require.NoError(t, err)
		return
	}
	rows, err := own.QueryContext(ctx, `SELECT ID FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> CONNECTION_ID()`)
	require.NoError(t, err)
	var ids []int64
	for rows.Next() {
		var id int64
		require.NoError(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(t, rows.Err())
	for _, id := range ids {
		_, err := own.ExecContext(ctx, `KILL ?`, id)
		require.NoError(t, err)
	}
}

func TestRenewWorksAgainAfterItsConnectionWasKilled(t *testing.T) {
	on(t, servers, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		space := open(t, store)
		owner := begin(t, space, long)
		put(t, space, "k", owner)
		killOthers(t, db)
		if _, err := space.Renew(patience(t), owner); err != nil {
			require.NotErrorIs(t, err, kv.ErrEnded)
			require.NotErrorIs(t, err, kv.ErrRefused)
		}
		ttl, err := space.Renew(patience(t), owner)
		require.NoError(t, err)
		require.Equal(t, long, ttl)
	})
}

func TestHeartbeatsGoOnWhileTheApplicationHasAllOtherConnections(t *testing.T) {
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		const most = 4
		db.SetMaxOpenConns(most)
		space := open(t, store)
		session, _, err := libcluster.OnStore(store).Join(patience(t), libcluster.Registration{
			Key: "key", TTL: long, Logger: zap.NewNop(), Member: libcluster.Member{ID: "a", Workers: 1},
		})
		require.NoError(t, err)
		defer session.Close()
		for range most - 1 {
			held, err := db.Conn(patience(t))
			require.NoError(t, err)
			defer held.Close()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err = space.Commit(ctx, kv.Tx{Delete: []string{"k"}})
		require.ErrorIs(t, err, context.DeadlineExceeded, "the pool has none left")
		for range 10 {
			_, err := session.Renew(patience(t))
			require.NoError(t, err)
		}
	})
}

func TestHeartbeatsEndWithThePool(t *testing.T) {
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		space := open(t, store)
		owner := begin(t, space, long)
		require.NoError(t, db.Close())
		_, err := space.Renew(patience(t), owner)
		require.ErrorContains(t, err, "closed")
		require.NotErrorIs(t, err, kv.ErrEnded)
		require.NotErrorIs(t, err, kv.ErrRefused)
		_, _, err = space.Get(patience(t), "k")
		require.ErrorContains(t, err, "closed")
	})
}

func TestServerThatDoesNotWriteIsNoticed(t *testing.T) {
	on(t, servers, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		stop, resume := "SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0" // which root may ignore
		var name string
		if systemOf(t).name == onPostgres.name {
			require.NoError(t, db.QueryRow(`SELECT current_database()`).Scan(&name))
			stop = "ALTER DATABASE " + name + " SET default_transaction_read_only = on"
			resume = "BEGIN READ WRITE; ALTER DATABASE " + name + " SET default_transaction_read_only = off; COMMIT"
		}
		space := open(t, store)
		owner := begin(t, space, long)
		put(t, space, "k", owner)
		watch, err := space.Watch(patience(t), "", 0)
		require.NoError(t, err)
		exec(t, db, stop)
		if name != "" {
			killOthers(t, db)     // the new ones are like those to a replica
			db.SetMaxIdleConns(0) // so is the one that has killed them
		}
		noticed := func(err error) {
			t.Helper()
			require.Error(t, err)
			require.NotErrorIs(t, err, kv.ErrEnded)
			require.NotErrorIs(t, err, kv.ErrRefused)
		}
		for range 3 {
			_, err = space.Renew(patience(t), owner)
			noticed(err)
			_, err = space.Renew(patience(t), kv.Owner(1))
			noticed(err)
			_, _, err = space.Get(patience(t), "k")
			noticed(err)
			_, err = space.Commit(patience(t), kv.Tx{Put: []kv.Record{{Key: "k"}}})
			noticed(err)
			_, err = space.Begin(patience(t), kv.Owner(1), long)
			noticed(err)
			noticed(space.End(patience(t), owner))
		}
		_, err = watch.Next(patience(t))
		noticed(err)
		exec(t, db, resume)
		if _, err = space.Renew(patience(t), owner); err != nil {
			noticed(err) // the last time, by its own connection
			_, err = space.Renew(patience(t), owner)
		}
		require.NoError(t, err)
		r, _, err := space.Get(patience(t), "k")
		require.NoError(t, err)
		require.Equal(t, owner, r.Owner)
	})
}

func TestTransactionOfAProcessThatIsStoppedIsEnded(t *testing.T) {
	t.Parallel()
	on(t, servers, func(t *testing.T, _ *sql.DB, store *sqlstore.Store) {
		store.EndIdle()
		stopped, other := open(t, store), open(t, store)
		ended := make(chan error, 1)
		held, goOn := make(chan struct{}), make(chan struct{})
		go func() {
			ended <- sqlstore.Hold(patience(t), stopped, func() {
				held <- struct{}{}
				<-goOn
			})
		}()
		<-held
		put(t, other, "k", 0)
		close(goOn)
		require.Error(t, <-ended)
		put(t, stopped, "k", 0)
	})
}

func TestConnectionIsGivenBackAsItWas(t *testing.T) {
	db := onMariaDB.db(t)
	db.SetMaxOpenConns(3)
	exec(t, db, "SET GLOBAL idle_transaction_timeout = 77")
	defer exec(t, db, "SET GLOBAL idle_transaction_timeout = 0")
	space := open(t, sqlstore.MySQL(db))
	put(t, space, "k", 0)
	_, err := space.Commit(patience(t), kv.Tx{If: []kv.Cond{kv.AtVersion("k", 0)}})
	require.NoError(t, err)
	var seconds int
	require.NoError(t, db.QueryRow(`SELECT @@SESSION.idle_transaction_timeout`).Scan(&seconds))
	require.Equal(t, 77, seconds)
}

func TestLeaseThatWasRenewedMeanwhileIsNotEnded(t *testing.T) {
	on(t, all, func(t *testing.T, _ *sql.DB, store *sqlstore.Store) {
		space := open(t, store)
		owner := begin(t, space, long)
		put(t, space, "k", owner)
		require.NoError(t, sqlstore.EndAsExpired(patience(t), space, owner))
		_, err := space.Renew(patience(t), owner)
		require.NoError(t, err)
		r, _, err := space.Get(patience(t), "k")
		require.NoError(t, err)
		require.NotZero(t, r.Version)
	})
}

func TestBeginAndRenewWaitForNoCommit(t *testing.T) {
	on(t, servers, func(t *testing.T, _ *sql.DB, store *sqlstore.Store) {
		space := open(t, store)
		owner := begin(t, space, long)
		before := put(t, space, "k", owner)
		var err error
		require.ErrorIs(t, sqlstore.Hold(patience(t), space, func() {
			begin(t, space, long)
			_, err = space.Renew(patience(t), owner)
		}), kv.ErrRefused)
		require.NoError(t, err)
		_, after, err := space.Get(patience(t), "k")
		require.NoError(t, err)
		require.Equal(t, before, after, "a renewal is no change")
	})
}

func TestOwnerWhoseLeaseHasHadItsTimeMayHaveAnother(t *testing.T) {
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		space := open(t, store)
		owner := begin(t, space, long)
		put(t, space, "k", owner)
		_, err := space.Begin(patience(t), owner, long)
		require.ErrorIs(t, err, kv.ErrRefused, "it lives")
		exec(t, db, "UPDATE libcluster_lease SET expires = 1") // nobody has noticed
		_, err = space.Begin(patience(t), owner, long)
		require.NoError(t, err)
		r, _, err := space.Get(patience(t), "k")
		require.NoError(t, err)
		require.Zero(t, r.Version, "it went with the lease before")
	})
}

func TestLeasesHeedNoTimeZone(t *testing.T) {
	url := testsql.MariaDB(t)
	east := open(t, sqlstore.MySQL(testsql.Open(t, "mysql", url+"?time_zone=%27%2B12%3A00%27")))
	west := open(t, sqlstore.MySQL(testsql.Open(t, "mysql", url+"?time_zone=%27-12%3A00%27")))
	a, b := begin(t, east, time.Hour), begin(t, west, time.Hour)
	for _, space := range []kv.Space{east, west} {
		put(t, space, "k", a)
		put(t, space, "k", b)
	}
}

// lateContext is one whose deadline has passed, and which ends when it is waited for after
// a call has failed.
type lateContext struct {
	context.Context
	end    context.CancelFunc
	failed *atomic.Bool
}

func (c lateContext) Done() <-chan struct{} {
	if c.failed.Load() {
		c.end()
	}
	return c.Context.Done()
}

func (lateContext) Deadline() (time.Time, bool) { return time.Now(), true }

func TestDriverThatNoticesADeadlineFirstIsNoTroubleOfTheStore(t *testing.T) {
	inner, cancel := context.WithCancel(t.Context())
	defer cancel()
	ctx := lateContext{inner, cancel, new(atomic.Bool)}
	err := sqlstore.Do(ctx, func() error {
		ctx.failed.Store(true)
		return errors.New("i/o timeout")
	})
	require.ErrorIs(t, err, context.Canceled)
}
