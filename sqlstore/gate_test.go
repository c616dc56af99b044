//go:build databases

package sqlstore_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

// A statement_timeout or lock_timeout may pass when the lock that is waited for is just granted: to the server's process
// both have happened when it goes on. The connection is given back to the pool, and is there for hours.
func TestGuardThatIsCancelledLeavesNoLock(t *testing.T) {
	t.Parallel()
	db := testsql.Open(t, "pgx", testsql.OwnPostgres(t).URL())
	db.SetMaxIdleConns(idle)
	store := sqlstore.Postgres(db)
	space := open(t, store)
	fence := fenced(t, space)
	tx, err := db.BeginTx(patience(t), nil)
	require.NoError(t, err)
	var process int
	require.NoError(t, tx.QueryRow(`SELECT pg_backend_pid()`).Scan(&process))
	guarded, ended := make(chan error, 1), make(chan error, 1)
	held, release := make(chan struct{}), make(chan struct{})
	go func() {
		ended <- sqlstore.Hold(patience(t), space, func() {
			close(held)
			<-release
		})
	}()
	<-held
	go func() { guarded <- store.Guard(patience(t), tx, fence) }()
	require.Eventually(t, func() bool {
		var waits bool
		err := db.QueryRow(`SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = $1`, process).Scan(&waits)
		return err == nil && waits
	}, watchdog, time.Millisecond)
	require.NoError(t, syscall.Kill(process, syscall.SIGSTOP))
	close(release)
	require.ErrorIs(t, <-ended, kv.ErrRefused)
	exec(t, db, `SELECT pg_cancel_backend($1)`, process)
	require.NoError(t, syscall.Kill(process, syscall.SIGCONT))

	require.ErrorContains(t, <-guarded, "57014")
	require.NoError(t, tx.Rollback())
	var locks int
	require.NoError(t, db.QueryRow(`SELECT count(*) FROM pg_locks WHERE pid = $1 AND locktype = 'advisory'`, process).Scan(&locks))
	require.Zero(t, locks, "all commits would wait for it")
	put(t, space, plan, 0)
}
