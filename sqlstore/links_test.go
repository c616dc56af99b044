//go:build unix

package sqlstore_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

// Two processes that open it by its two names would each be alone there.
func TestFileWithTwoNamesIsRefused(t *testing.T) {
	db := onSQLite.db(t)
	space, err := sqlstore.SQLite(db).Open(patience(t), "space")
	require.NoError(t, err)
	require.NoError(t, space.Close())
	var path string
	require.NoError(t, db.QueryRow("SELECT file FROM pragma_database_list").Scan(&path))
	require.NoError(t, db.Close())
	another := filepath.Join(t.TempDir(), "another")
	require.NoError(t, os.Link(path, another))
	for _, name := range []string{path, another} {
		store := sqlstore.SQLite(testsql.Open(t, "sqlite", "file:"+name))
		_, err := store.Open(patience(t), "space")
		require.ErrorIs(t, err, kv.ErrRefused)
		require.ErrorContains(t, err, name+" has another name")
	}
	require.NoError(t, os.Remove(another))
	open(t, sqlstore.SQLite(testsql.Open(t, "sqlite", "file:"+path)))
}

func TestFileThatIsMountedByItselfIsFound(t *testing.T) {
	const mounts = "36 35 98:0 /var/lib/a /data/store rw,noatime master:1 - ext4 /dev/root rw\n" +
		`37 35 98:0 /var/lib/b /a\040b\134c rw - ext4 /dev/root rw` + "\n"
	require.True(t, sqlstore.IsMounted(mounts, "/data/store"))
	require.True(t, sqlstore.IsMounted(mounts, `/a b\c`))
	require.False(t, sqlstore.IsMounted(mounts, "/data"))
	require.False(t, sqlstore.IsMounted(mounts, "/var/lib/a"))
	require.False(t, sqlstore.IsMounted("", "/data/store"))
}
