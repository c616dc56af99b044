//go:build databases

package sqlstore_test

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/heartbeats"
	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/internal/teststore"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

func init() {
	servers = []system{onPostgres, onMariaDB}
	all = servers // without the tag it is SQLite
}

func TestPostgresIsAStore(t *testing.T) {
	t.Parallel()
	db := onPostgres.db(t)
	conforms(t, func(*testing.T) kv.Store { return sqlstore.Postgres(db) })
}

func TestMariaDBIsAStore(t *testing.T) {
	t.Parallel()
	// The other tests are without it.
	db := testsql.Open(t, onMariaDB.driver, onMariaDB.url(t)+"?interpolateParams=true")
	db.SetMaxIdleConns(idle)
	conforms(t, func(*testing.T) kv.Store { return sqlstore.MySQL(db) })
}

// Heartbeats have the watches look far more often, which on SQLite alone takes a processor three
// times as long as without them.
func TestSQLStoresBesideHeartbeatsKeepThePromises(t *testing.T) {
	t.Parallel()
	keepThePromises(t, func(s system, db *sql.DB) *teststore.Apart {
		return teststore.NewApart(func() kv.Store {
			return heartbeats.Beside(s.store(db), heartbeats.Config{Bind: "127.0.0.1:0"})
		})
	})
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
			db.SetMaxIdleConns(0) // the connection that has killed them ends, too
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

func TestWhatAServerWillNeverDoIsRefused(t *testing.T) {
	t.Run("Postgres", func(t *testing.T) {
		url := testsql.Postgres(t)
		admin := testsql.Open(t, "pgx", url)
		user := "poor_" + url[strings.LastIndex(url, "/")+1:strings.LastIndex(url, "?")]
		exec(t, admin, "CREATE ROLE "+user+" LOGIN")
		exec(t, admin, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
		_, err := sqlstore.Postgres(testsql.Open(t, "pgx", strings.Replace(url, "postgres@", user+"@", 1))).Open(patience(t), "space")
		require.ErrorIs(t, err, kv.ErrRefused, "it may not create tables")
		require.ErrorContains(t, err, "making the tables: ")
		require.ErrorContains(t, err, "Store.Script")
		_, err = sqlstore.Postgres(testsql.Open(t, "pgx", strings.Replace(url, "/test_", "/absent_", 1))).Open(patience(t), "space")
		require.ErrorIs(t, err, kv.ErrRefused, "there is no such database")
		exec(t, admin, "DROP ROLE "+user)
	})
	t.Run("MariaDB", func(t *testing.T) {
		url := testsql.MariaDB(t)
		admin := testsql.Open(t, "mysql", url)
		exec(t, admin, "CREATE USER poor@'%', poor@localhost")
		poor := testsql.Open(t, "mysql", strings.Replace(url, "root@", "poor@", 1))
		_, err := sqlstore.MySQL(poor).Open(patience(t), "space")
		require.ErrorIs(t, err, kv.ErrRefused, "it may not use the database")
		_, err = sqlstore.MySQL(testsql.Open(t, "mysql", strings.Replace(url, "/test_", "/absent_", 1))).Open(patience(t), "space")
		require.ErrorIs(t, err, kv.ErrRefused, "there is no such database")
		exec(t, admin, "DROP USER poor@'%', poor@localhost")
	})
}
