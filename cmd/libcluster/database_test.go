//go:build databases

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testsql"
)

func TestClustersInADatabaseAreSeenAndItsPasswordIsNot(t *testing.T) {
	t.Parallel()
	server := testsql.OwnPostgres(t)
	uri := strings.Replace(server.URL(), "postgres@", "postgres:hunter2@", 1)
	require.NotContains(t, seen(t, libcluster.ModeExclusive, "-r", uri), "hunter2")
	server.Kill()
	for _, command := range lookers {
		status, text := failing(t, append(strings.Fields(command), "-k", "m", "-r", uri, "--timeout", "3s", "-v")...)
		require.Equal(t, exitUnseen, status)
		require.Contains(t, text, "cannot see the cluster: ")
		require.NotContains(t, text, "hunter2")
	}
}

func TestClustersInADatabaseAreListed(t *testing.T) {
	t.Parallel()
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		listed(t, "-r", testsql.OwnPostgres(t).URL())
	})
	t.Run("MariaDB", func(t *testing.T) {
		t.Parallel()
		name := testsql.OwnMariaDB(t)
		db := testsql.Open(t, "mysql", name)
		_, err := db.ExecContext(t.Context(), "CREATE DATABASE c")
		require.NoError(t, err)
		address, _, _ := strings.Cut(strings.TrimPrefix(name, "root@tcp("), ")")
		listed(t, "-r", "mysql://root@"+address+"/c")
	})
}
