//go:build linux && faults

package sqlstore_test

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

// This needs the right to mount, which root has. To renew a lease SQLite writes to the end of a file.
func TestFullFileSystemStopsHeartbeatsInSQLiteUntilThereIsRoom(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m,mode=700"), "mounting needs root")
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	db := testsql.Open(t, onSQLite.driver, "file:"+dir+"/store?_pragma=journal_mode(WAL)")
	t.Cleanup(func() {
		db.Close()
		require.Eventually(t, func() bool { return db.Stats().OpenConnections == 0 }, watchdog, time.Millisecond)
	})
	space := open(t, sqlstore.SQLite(db))
	owner := begin(t, space, long)
	put(t, space, "k", owner)
	file, err := os.Create(dir + "/full")
	require.NoError(t, err)
	for err == nil {
		_, err = file.Write(bytes.Repeat([]byte("x"), 4096))
	}
	require.ErrorIs(t, err, unix.ENOSPC)
	require.NoError(t, file.Close())
	for _, call := range []func() error{
		func() error { _, err := space.Renew(patience(t), owner); return err },
		func() error { _, err := space.Begin(patience(t), randomOwner(), long); return err },
		func() error { _, err := space.Commit(patience(t), kv.Tx{Delete: []string{"k"}}); return err },
		func() error { return space.End(patience(t), owner) },
	} {
		err := call()
		require.ErrorContains(t, err, "full")
		require.NotErrorIs(t, err, kv.ErrEnded)
		require.NotErrorIs(t, err, kv.ErrRefused)
	}
	require.NoError(t, os.Remove(dir+"/full"))
	_, err = space.Renew(patience(t), owner)
	require.NoError(t, err)
	r, _, err := space.Get(patience(t), "k")
	require.NoError(t, err)
	require.Equal(t, owner, r.Owner)
}
