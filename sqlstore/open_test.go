package sqlstore_test

import (
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testhost"
	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

func TestTablesAreMadeByManyAtOnce(t *testing.T) {
	t.Parallel()
	on(t, all, func(t *testing.T, db *sql.DB, _ *sqlstore.Store) {
		another := systemOf(t).store
		ctx := patience(t)
		marks := make([]kv.Mark, 8)
		errs := make([]error, len(marks))
		var opening sync.WaitGroup
		for i := range marks {
			opening.Go(func() {
				space, err := another(db).Open(ctx, "space")
				if err == nil {
					_, marks[i], err = space.Get(ctx, "k")
					space.Close()
				}
				errs[i] = err
			})
		}
		opening.Wait()
		for i, mark := range marks {
			require.NoError(t, errs[i])
			require.Equal(t, marks[0], mark, "all have one store")
		}
		require.Positive(t, marks[0].Revision)
	})
}

func TestScriptMakesWhatOpenWouldHaveMade(t *testing.T) {
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		store.Prefix = "other_"
		script := store.Script()
		require.NotContains(t, script, "{")
		for statement := range strings.SplitSeq(strings.TrimSpace(script), ";\n") {
			exec(t, db, strings.TrimSuffix(statement, ";"))
		}
		space := open(t, store)
		put(t, space, "k", begin(t, space, long))
		var n int
		require.NoError(t, db.QueryRow(`SELECT COUNT(*) FROM other_record`).Scan(&n))
		require.Equal(t, 1, n)
	})
}

func TestStoreThatWasRemovedIsAnotherOne(t *testing.T) {
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		space := open(t, store)
		before := put(t, space, "k", 0)
		watch, err := space.Watch(patience(t), "", 0)
		require.NoError(t, err)
		for _, table := range []string{"space", "record", "lease", "change", "store"} {
			exec(t, db, "DROP TABLE libcluster_"+table)
		}
		_, err = watch.Next(patience(t))
		require.ErrorIs(t, err, kv.ErrMissed)
		_, again := watch.Next(patience(t))
		require.Equal(t, err, again, "the watch is over")
		r, after, err := space.Get(patience(t), "k")
		require.NoError(t, err)
		require.Zero(t, r.Version)
		require.NotEqual(t, before.Store, after.Store)
	})
}

// An administrator has removed one, or has put back only some.
func TestStoreThatHasLostATableIsAnotherOne(t *testing.T) {
	for _, table := range []string{"space", "record", "lease", "change"} {
		t.Run(table, func(t *testing.T) {
			on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
				space := open(t, store)
				put(t, space, "gone", begin(t, space, long))
				before := put(t, space, "k", 0)
				watch, err := space.Watch(patience(t), "", 0)
				require.NoError(t, err)
				exec(t, db, "DROP TABLE libcluster_"+table)
				after := put(t, space, "k", 0)
				_, err = watch.Next(patience(t))
				require.ErrorIs(t, err, kv.ErrMissed)
				require.NotEqual(t, before.Store, after.Store)
				require.Greater(t, after.Revision, before.Revision)
				_, again, err := space.Get(patience(t), "k")
				require.NoError(t, err)
				require.Equal(t, after.Store, again.Store, "it changes its name once")
				if table == "lease" {
					r, _, err := space.Get(patience(t), "gone")
					require.NoError(t, err)
					require.Zero(t, r.Version, "it would stay for ever")
				}
			})
		})
	}
}

func TestSpaceThatHasLostItsRowGoesOnFromItsChanges(t *testing.T) {
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		space := open(t, store)
		put(t, space, "k", 0)
		before := put(t, space, "k", 0)
		exec(t, db, "DELETE FROM libcluster_space")
		after := put(t, space, "k", 0)
		require.Equal(t, kv.Mark{Store: before.Store, Revision: before.Revision + 1}, after)
	})
}

func TestWatchOfAStoreThatHasGoneBackHasMissedSomething(t *testing.T) {
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		space := open(t, store)
		put(t, space, "k", 0)
		put(t, space, "k", 0)
		watch, err := space.Watch(patience(t), "", 0)
		require.NoError(t, err)
		exec(t, db, "UPDATE libcluster_space SET revision = revision - 1")
		_, err = watch.Next(patience(t))
		require.ErrorIs(t, err, kv.ErrMissed)
	})
}

func TestOldChangesAreRemoved(t *testing.T) {
	t.Parallel()
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		store.Keep(10)
		space := open(t, store)
		first := put(t, space, "k", 0).Revision
		old, err := space.Watch(patience(t), "", first)
		require.NoError(t, err)
		var last int64
		for range 200 {
			last = put(t, space, "k", 0).Revision
		}
		var n int
		require.NoError(t, db.QueryRow(`SELECT COUNT(*) FROM libcluster_change`).Scan(&n))
		require.Less(t, n, 80)
		_, err = old.Next(patience(t))
		require.ErrorIs(t, err, kv.ErrMissed)
		recent, err := space.Watch(patience(t), "", last-10)
		require.NoError(t, err)
		changes, err := recent.Next(patience(t))
		require.NoError(t, err)
		require.Len(t, changes.Records, 10, "as many as are to be kept")
	})
}

func TestPoolMustHaveAConnectionForEachSpaceAndTwoMore(t *testing.T) {
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		db.SetMaxOpenConns(2)
		_, err := store.Open(patience(t), "space")
		require.ErrorIs(t, err, kv.ErrRefused, "it could not rejoin")
		db.SetMaxOpenConns(3)
		one := open(t, store)
		_, err = store.Open(patience(t), "another")
		require.ErrorIs(t, err, kv.ErrRefused)
		open(t, store) // as who rejoins does
		_, err = store.Open(patience(t), "space")
		require.ErrorIs(t, err, kv.ErrRefused)
		require.NoError(t, one.Close())
		require.NoError(t, one.Close())
		open(t, store)
	})
}

func TestNamesThatAreNoneAreRefused(t *testing.T) {
	store := sqlstore.SQLite(onSQLite.db(t))
	for _, name := range []string{"", strings.Repeat("x", 801), "\xff", "a\nb"} {
		_, err := store.Open(patience(t), name)
		require.ErrorIs(t, err, kv.ErrRefused, "%q", name)
	}
	space := open(t, store)
	for _, tx := range []kv.Tx{
		{Put: []kv.Record{{Key: strings.Repeat("x", 601)}}},
		{Put: []kv.Record{{Key: "\x00"}}},
		{Put: []kv.Record{{Key: "k", Value: make([]byte, 1<<20+1)}}},
		{Put: []kv.Record{{Key: "k"}, {Key: "k"}}},
		{Put: []kv.Record{{Key: "k"}}, Delete: []string{"k"}},
	} {
		_, err := space.Commit(patience(t), tx)
		require.ErrorIs(t, err, kv.ErrRefused)
	}
	store.Prefix = "a; DROP TABLE b --"
	_, err := store.Open(patience(t), "space")
	require.ErrorIs(t, err, kv.ErrRefused)
}

func TestWhatTheDatabaseWillNeverDoIsRefused(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		db := onSQLite.db(t)
		exec(t, db, "PRAGMA user_version = 1") // the file is there
		var file string
		require.NoError(t, db.QueryRow("SELECT file FROM pragma_database_list").Scan(&file))
		_, err := sqlstore.SQLite(testsql.Open(t, "sqlite", "file:"+file+"?mode=ro")).Open(patience(t), "space")
		require.ErrorIs(t, err, kv.ErrRefused)
	})
}

func TestErrorsHoldNoPassword(t *testing.T) {
	port := testhost.FreePort(t)
	for driver, store := range map[string]*sqlstore.Store{
		"pgx":   sqlstore.Postgres(testsql.Open(t, "pgx", fmt.Sprintf("postgres://user:hunter2@127.0.0.1:%d/db", port))),
		"mysql": sqlstore.MySQL(testsql.Open(t, "mysql", fmt.Sprintf("user:hunter2@tcp(127.0.0.1:%d)/db", port))),
	} {
		_, err := store.Open(patience(t), "space")
		require.Error(t, err, driver)
		require.NotErrorIs(t, err, kv.ErrRefused, driver)
		require.NotContains(t, err.Error(), "hunter2", driver)
	}
}
