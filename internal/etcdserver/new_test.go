package etcdserver_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

// put writes files of a folder, and the folders that these are in.
func put(t *testing.T, dir string, files ...string) {
	for _, file := range files {
		file = filepath.Join(dir, file)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, nil, 0o600))
	}
}

func TestStageGoesByTheLog(t *testing.T) {
	dir := t.TempDir()
	is := func(want etcdserver.Stage) {
		t.Helper()
		stage, err := etcdserver.StageOf(dir)
		require.NoError(t, err)
		require.Equal(t, want, stage)
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "member"), 0o700))
	is(etcdserver.Empty)
	put(t, dir, "member/snap/db", "member/wal.tmp/0.wal") // a start that failed
	is(etcdserver.Empty)
	require.NoDirExists(t, filepath.Join(dir, "member"))
	put(t, dir, "member/snap/db", "member/wal/0.wal")
	is(etcdserver.Forming)
	require.NoError(t, etcdserver.Serves(dir))
	is(etcdserver.Formed)
}

func TestDataThatWasServedIsNotRemoved(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "member/snap/db")
	_, err := etcdserver.StageOf(dir)
	require.ErrorContains(t, err, "has no log of the data")
	require.FileExists(t, filepath.Join(dir, "member/snap/db"))
}
