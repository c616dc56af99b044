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
