package sqlstore_test

import (
	"context"
	"database/sql"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
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

func TestHeartbeatsGoOnWhileTheApplicationHasAllOtherConnections(t *testing.T) {
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		const most = 4
		db.SetMaxOpenConns(most)
		space := open(t, store)
		session, _, err := between.Join(patience(t), libcluster.OnStore(store), libcluster.Registration{
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

// A newcomer would find another file, and be alone there: so would the others, in the old one.
func TestNothingIsDoneInAFileThatWasRemovedOrReplaced(t *testing.T) {
	db := onSQLite.db(t)
	store := sqlstore.SQLite(db)
	space := open(t, store)
	owner := begin(t, space, long)
	var path string
	require.NoError(t, db.QueryRow(`SELECT file FROM pragma_database_list`).Scan(&path))
	away := path + ".away"
	refused := func() {
		t.Helper()
		_, err := space.Renew(patience(t), owner)
		require.ErrorIs(t, err, kv.ErrRefused)
		require.ErrorContains(t, err, path+" was removed or replaced")
		_, _, err = space.Get(patience(t), "k")
		require.ErrorIs(t, err, kv.ErrRefused)
		_, err = space.Commit(patience(t), kv.Tx{Delete: []string{"k"}})
		require.ErrorIs(t, err, kv.ErrRefused)
		_, err = store.Open(patience(t), "space")
		require.ErrorIs(t, err, kv.ErrRefused)
	}
	require.NoError(t, os.Rename(path, away))
	refused()
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	refused()
	require.NoError(t, os.Rename(away, path))
	_, err := space.Renew(patience(t), owner)
	require.NoError(t, err)
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
