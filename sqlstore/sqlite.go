package sqlstore

import (
	"database/sql"
	"errors"
	"strconv"
	"strings"
)

// SQLite returns the store in a SQLite database of version 3.24 or later. Store never
// closes db.
func SQLite(db *sql.DB) *Store { return newStore(db, &sqlite) }

var sqlite = dialect{
	// It waits for its turn now, and not when it has read already.
	begin: []string{"BEGIN IMMEDIATE"},
	// From then on nobody else writes, and what it has read before is what is there.
	gate: `UPDATE {space} SET name = name WHERE 1 = 0`,
	file: `SELECT file FROM pragma_database_list WHERE name = 'main'`,
	words: map[string]string{
		"now":        "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)",
		"int":        "INTEGER",
		"read-only":  "0",
		"writes":     "1 = 1",
		"timeline":   "",
		"lock":       "",
		"share":      "",
		"turn":       "''",
		"lasting":    "''",
		"idle":       "''",
		"ignore":     "",
		"unless":     "ON CONFLICT DO NOTHING",
		"replace":    "ON CONFLICT (space, name) DO UPDATE SET value = excluded.value, owner = excluded.owner, version = excluded.version",
		"space-name": "BLOB",
		"key":        "BLOB",
		"value":      "BLOB",
		"all":        "",
		"plain":      "",
		"hot":        "",
	},
	faults: faults{
		code:     sqliteCode,
		conflict: []string{"5", "6", "17"}, // 17: another one has changed the tables meanwhile
		missing:  []string{"1 no such table"},
		exists:   []string{"19"},
		refused:  []string{"1 no such", "1 syntax", "8", "23", "26"},
	},
}

// sqliteCode returns the primary code of SQLite's error, or "". That of the many errors
// with code 1 is followed by their text.
func sqliteCode(err error) string {
	var e interface{ Code() int }
	switch text := err.Error(); {
	case errors.As(err, &e) && e.Code()&0xff != 1:
		return strconv.Itoa(e.Code() & 0xff)
	case strings.Contains(text, "database is locked"), strings.Contains(text, "database table is locked"):
		return "5"
	case strings.Contains(text, "no such"):
		return "1 no such" + text[strings.Index(text, "no such")+len("no such"):]
	case strings.Contains(text, "syntax error"):
		return "1 syntax"
	}
	return ""
}
