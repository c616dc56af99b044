package sqlstore

import (
	"database/sql"
	"errors"
	"strings"
)

// Postgres returns the store in a PostgreSQL database, of version 11 or later. The
// driver's errors must have the method SQLState() string, as those of pgx and pq have.
// Store never closes db.
func Postgres(db *sql.DB) *Store { return newStore(db, &postgres) }

var postgres = dialect{
	numbered: true,
	// The lock is waited for, and then what follows reads what is there by then.
	begin:  []string{"BEGIN ISOLATION LEVEL READ COMMITTED"},
	notify: " RETURNING pg_notify('%s', '%s')",
	// A row that is locked by those who share it is theirs as long as others join them, and a
	// commit would wait for ever. The lock goes with the savepoint, also if the statement is cancelled when it
	// has just got it: a lock of the session would stay with the connection.
	gate: `SAVEPOINT libcluster; SELECT pg_advisory_xact_lock_shared(hashtextextended('%x', 0));
ROLLBACK TO SAVEPOINT libcluster; RELEASE SAVEPOINT libcluster; SELECT {idle}`,
	words: map[string]string{
		"now":       "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
		"int":       "BIGINT",
		"read-only": "CASE WHEN current_setting('transaction_read_only') = 'on' THEN 1 ELSE 0 END",
		"writes":    "TRUE",
		// A replica that is promoted begins another timeline, and so does a backup that is
		// restored up to a point of the log.
		"timeline":   " || CASE WHEN pg_is_in_recovery() THEN '' ELSE '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END",
		"lock":       "FOR UPDATE",
		"share":      "FOR SHARE",
		"turn":       "CAST(pg_advisory_xact_lock(hashtextextended(encode(name, 'hex'), 0)) AS TEXT)",
		"lasting":    "CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', TRUE) ELSE '' END",
		"idle":       "set_config('idle_in_transaction_session_timeout', '10s', TRUE)",
		"ignore":     "",
		"unless":     "ON CONFLICT DO NOTHING",
		"replace":    "ON CONFLICT (space, name) DO UPDATE SET value = excluded.value, owner = excluded.owner, version = excluded.version",
		"space-name": "BYTEA",
		"key":        "BYTEA",
		"value":      "BYTEA",
		"all":        "",
		"plain":      "",
		"hot":        " WITH (fillfactor = 50)",
	},
	faults: faults{
		code:     sqlState,
		conflict: []string{"40001", "40P01", "55P03"},
		missing:  []string{"42P01"},
		exists:   []string{"23505", "42P07", "42710"},
		readOnly: []string{"25006"},
		refused:  []string{"42", "28", "3D", "3F", "0A", "26", statementPooling},
		advice: map[string]string{
			"26000":          prepares,
			"42P05":          prepares,
			statementPooling: "PgBouncer must have pool_mode = session or transaction",
		},
	},
}

const (
	// statementPooling is the code of what PgBouncer says of every transaction in statement mode.
	statementPooling = "08P01 statement pooling"

	prepares = "behind PgBouncer in transaction mode the driver must prepare no statements: " +
		"give pgx default_query_exec_mode=exec, or pq binary_parameters=yes"
)

// sqlState returns the SQLSTATE of an error, or "". That of the many errors with which PgBouncer ends
// connections is followed by what this one is.
func sqlState(err error) string {
	var e interface{ SQLState() string }
	switch {
	case !errors.As(err, &e):
		return ""
	case e.SQLState() == "08P01" && strings.Contains(err.Error(), "statement pooling mode"):
		return statementPooling
	}
	return e.SQLState()
}
