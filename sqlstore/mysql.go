package sqlstore

import (
	"database/sql"
	"strings"
	"unicode"
)

// MySQL returns the store in a database of MariaDB 10.3 or later, or of MySQL 8 or later,
// with InnoDB. Store never closes db.
func MySQL(db *sql.DB) *Store { return newStore(db, &mysql) }

var mysql = dialect{
	// The lock is waited for, and then what follows reads what is there by then. What is
	// behind the M is for MariaDB; MySQL has no such variable.
	begin: []string{
		"SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
		"SET @libcluster = 1 /*M!100300 , SESSION idle_transaction_timeout = 10 */",
		"START TRANSACTION",
	},
	// Else a lease, or what comes after a commit, would stay in a transaction without an end. Or what is rolled back
	// would be read. The isolation has one name in MySQL, and another one in MariaDB.
	unfit: `SELECT CASE WHEN @@autocommit = 0 THEN 'autocommit = 0' WHEN @@completion_type = 'CHAIN' THEN 'completion_type = CHAIN'
WHEN /*!80003 @@transaction_isolation *//*M! @@tx_isolation */ = 'READ-UNCOMMITTED' THEN 'READ-UNCOMMITTED as the isolation of transactions' END`,
	end: []string{"SET @libcluster = NULL /*M!100300 , SESSION idle_transaction_timeout = DEFAULT */"},
	words: map[string]string{
		// Whatever the time zone of the session is, and when it changes to summer time.
		"now": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))",
		"int": "SIGNED",
		// Some users may write on a server that is read-only. Newer versions of MariaDB have a word there.
		"read-only":  "CASE WHEN CAST(@@global.read_only AS CHAR) IN ('0', 'OFF') THEN 0 ELSE 1 END",
		"writes":     "CAST(@@global.read_only AS CHAR) IN ('0', 'OFF')",
		"timeline":   "",
		"lock":       "FOR UPDATE",
		"share":      "LOCK IN SHARE MODE",
		"turn":       "''",
		"lasting":    "''",
		"idle":       "''",
		"ignore":     "IGNORE",
		"unless":     "",
		"replace":    "ON DUPLICATE KEY UPDATE value = VALUES(value), owner = VALUES(owner), version = VALUES(version)",
		"space-name": "VARBINARY(800)",
		"key":        "VARBINARY(600)",
		"value":      "LONGBLOB",
		"all":        "LIMIT 18446744073709551615", // whatever sql_select_limit is
		"plain":      " ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
		"hot":        " ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
	},
	faults: faults{
		code:     mysqlNumber,
		conflict: []string{"1213", "1205"},
		missing:  []string{"1146"},
		exists:   []string{"1062", "1050"},
		readOnly: []string{"1290", "1792", "1836"},
		refused:  []string{"1044", "1045", "1049", "1054", "1064", "1142", "1143", "1146", "1227", "1665"},
	},
}

// mysqlNumber returns the number of MySQL's error, or "". Its text is as in "Error 1213
// (40001): Deadlock found".
func mysqlNumber(err error) string {
	_, text, found := strings.Cut(err.Error(), "Error ")
	if !found {
		return ""
	}
	end := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsDigit(r) })
	return text[:max(end, 0)]
}
