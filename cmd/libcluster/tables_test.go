package main

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTablesArePrintedForAnAdministrator(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "c.db")
	script := printed(t, "tables", "-r", "sqlite:"+file)
	require.NoFileExists(t, file, "nothing is made")
	db, err := sql.Open("sqlite", "file:"+file)
	require.NoError(t, err)
	defer db.Close()
	for statement := range strings.SplitSeq(script, ";\n") {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	var tables int
	require.NoError(t, db.QueryRow("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name LIKE 'libcluster_%'").Scan(&tables))
	require.Equal(t, 5, tables)

	require.Contains(t, printed(t, "tables", "-r", "postgres://mailer:hunter2@127.0.0.1:1/mailer"), "BYTEA")
	require.Contains(t, printed(t, "tables", "-r", "mysql://mailer:hunter2@127.0.0.1:1/mailer"), "ENGINE=InnoDB")
	for registry, why := range map[string]string{"dir:" + t.TempDir(): "is in no database", "": "-r"} {
		args := []string{"tables"}
		if registry != "" {
			args = append(args, "-r", registry)
		}
		status, text := failing(t, args...)
		require.Equal(t, exitUsage, status)
		require.Contains(t, text, why)
	}
}
