//go:build databases

package sqlstore_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

// There was a number up to MariaDB 11. A newer one has a word.
func TestServerSaysInAnyFormThatItIsReadOnly(t *testing.T) {
	db := onMariaDB.db(t)
	for value, writes := range map[string]bool{"0": true, "'OFF'": true, "1": false, "'ON'": false, "'NO_LOCK'": false, "'NO_LOCK_NO_ADMIN'": false} {
		t.Run(value, func(t *testing.T) {
			store := sqlstore.MySQL(db)
			store.ReadOnlyIs(value)
			space := open(t, store)
			_, err := space.Begin(patience(t), randomOwner(), long)
			_, _, got := space.Get(patience(t), "k")
			if writes {
				require.NoError(t, err)
				require.NoError(t, got)
			} else {
				require.ErrorContains(t, err, "the server is read-only")
				require.ErrorContains(t, got, "the server is read-only")
			}
		})
	}
}

func TestConnectionsThatDoNotEndTransactionsAreRefused(t *testing.T) {
	for parameter, named := range map[string]string{"autocommit=0": "autocommit = 0", "completion_type=1": "completion_type = CHAIN"} {
		t.Run(parameter, func(t *testing.T) {
			_, err := sqlstore.MySQL(testsql.Open(t, "mysql", testsql.MariaDB(t)+"?"+parameter)).Open(patience(t), "space")
			require.ErrorIs(t, err, kv.ErrRefused)
			require.ErrorContains(t, err, named)
		})
	}
}

// A plan that is rolled back must not be acted on.
func TestConnectionsThatReadWhatIsNotCommittedAreRefused(t *testing.T) {
	url := testsql.MariaDB(t)
	_, err := sqlstore.MySQL(testsql.Open(t, "mysql", url+"?tx_isolation=%27READ-UNCOMMITTED%27")).Open(patience(t), "space")
	require.ErrorIs(t, err, kv.ErrRefused)
	require.ErrorContains(t, err, "the connections of the pool have READ-UNCOMMITTED as the isolation of transactions")
	for _, isolation := range []string{"READ-COMMITTED", "REPEATABLE-READ", "SERIALIZABLE"} {
		space := open(t, sqlstore.MySQL(testsql.Open(t, "mysql", url+"?tx_isolation=%27"+isolation+"%27")))
		put(t, space, "k", begin(t, space, long))
	}
}

func TestHeartbeatsAreRefusedWhenConnectionsDoNotEndTransactionsAnyMore(t *testing.T) {
	t.Parallel()
	t.Run(onMariaDB.name, func(t *testing.T) {
		url := testsql.OwnMariaDB(t)
		admin := testsql.Open(t, "mysql", url+"?autocommit=1")
		exec(t, admin, "CREATE DATABASE test")
		space := open(t, sqlstore.MySQL(testsql.Open(t, "mysql", url+"test")))
		owner := begin(t, space, long)
		exec(t, admin, "SET GLOBAL autocommit = 0")
		killOthers(t, testsql.Open(t, "mysql", url+"test?autocommit=1"))
		_, _ = space.Renew(patience(t), owner) // it finds its connection ended
		_, err := space.Renew(patience(t), owner)
		require.ErrorIs(t, err, kv.ErrRefused)
		require.ErrorContains(t, err, "autocommit = 0")
	})
}

func TestAllRowsAreReadWhateverTheLimitOfTheServer(t *testing.T) {
	space := open(t, sqlstore.MySQL(testsql.Open(t, "mysql", testsql.MariaDB(t)+"?sql_select_limit=1")))
	watch, err := space.Watch(patience(t), "", 0)
	require.NoError(t, err)
	const n = 5
	tx := kv.Tx{}
	for i := range n {
		tx.Put = append(tx.Put, kv.Record{Key: strconv.Itoa(i), Owner: begin(t, space, long)})
	}
	each := func(found *int) func(kv.Record) error { return func(kv.Record) error { *found++; return nil } }
	var committed, listed int
	tx.Each = each(&committed)
	result, err := space.Commit(patience(t), tx)
	require.NoError(t, err)
	require.True(t, result.Done)
	require.Equal(t, n, committed)
	_, err = space.List(patience(t), "", each(&listed))
	require.NoError(t, err)
	require.Equal(t, n, listed)
	changes, err := watch.Next(patience(t))
	require.NoError(t, err)
	require.Len(t, changes.Records, n)
}

// An administrator may have chosen speed. A commit that a crash takes back was told to instances, which then act as
// nobody else knows.
func TestCommitOutlastsACrashWhateverTheServerIsSetTo(t *testing.T) {
	t.Parallel()
	server := testsql.OwnPostgres(t, "-c", "synchronous_commit=off", "-c", "wal_writer_delay=10s", "-c", "wal_writer_flush_after=1GB")
	space := open(t, sqlstore.Postgres(testsql.Open(t, "pgx", server.URL())))
	var last kv.Mark
	for range 20 {
		last = put(t, space, "k", 0)
	}
	server.Kill()
	server.Start()
	var revision int64
	require.NoError(t, testsql.Open(t, "pgx", server.URL()).QueryRow(`SELECT revision FROM libcluster_space`).Scan(&revision))
	require.Equal(t, last.Revision, revision)
}
