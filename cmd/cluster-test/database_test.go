//go:build databases

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testsql"
)

func TestInstancesMeetInPostgres(t *testing.T) {
	t.Parallel()
	server := testsql.OwnPostgres(t)
	require.NotContains(t, meet(t, "-r", strings.Replace(server.URL(), "postgres@", "postgres:hunter2@", 1)), "hunter2")
	at := strings.Replace(server.URL(), "postgres@", "", 1)
	require.NotContains(t, meet(t, "-r", at, "--user", "postgres:hunter2", "-k", "another"), "hunter2")
}

func TestInstancesMeetInMariaDB(t *testing.T) {
	t.Parallel()
	name := testsql.OwnMariaDB(t)
	admin := testsql.Open(t, "mysql", name)
	for _, statement := range []string{"CREATE DATABASE clusters", "CREATE USER me@'%' IDENTIFIED BY 'hunter2'", "GRANT ALL ON clusters.* TO me@'%'"} {
		_, err := admin.Exec(statement)
		require.NoError(t, err)
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(name, "root@tcp("), ")")
	require.NotContains(t, meet(t, "-r", fmt.Sprintf("mysql://me:hunter2@%s/clusters", host)), "hunter2")
	p := start(t, "-v", "-r", fmt.Sprintf("mysql://me:hunter3@%s/clusters", host))
	require.Equal(t, exitFailed, p.Ends(t))
	require.Contains(t, p.stderr.String(), "Access denied")
	require.NotContains(t, p.stderr.String(), "hunter3")
}
