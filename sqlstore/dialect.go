package sqlstore

import (
	"strconv"
	"strings"
)

// tables make the tables. That of the store is the last: if it is there, so are the others.
var tables = []string{
	`CREATE TABLE IF NOT EXISTS {space} (
	name {space-name} NOT NULL PRIMARY KEY,
	revision BIGINT NOT NULL,
	pruned BIGINT NOT NULL
){hot}`,
	`CREATE TABLE IF NOT EXISTS {record} (
	space {space-name} NOT NULL,
	name {key} NOT NULL,
	value {value} NOT NULL,
	owner BIGINT NOT NULL,
	version BIGINT NOT NULL,
	created BIGINT NOT NULL,
	PRIMARY KEY (space, name)
){plain}`,
	`CREATE TABLE IF NOT EXISTS {lease} (
	space {space-name} NOT NULL,
	owner BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	ttl BIGINT NOT NULL,
	PRIMARY KEY (space, owner)
){hot}`,
	`CREATE TABLE IF NOT EXISTS {change} (
	space {space-name} NOT NULL,
	revision BIGINT NOT NULL,
	name {key} NOT NULL,
	value {value},
	owner BIGINT NOT NULL,
	created BIGINT NOT NULL,
	gone SMALLINT NOT NULL,
	PRIMARY KEY (space, revision, name)
){plain}`,
	`CREATE TABLE IF NOT EXISTS {store} (
	one SMALLINT NOT NULL PRIMARY KEY,
	id VARCHAR(255) NOT NULL
){plain}`,
}

// dialect is what the databases differ in. Statements are written with '?' for their
// arguments, and with words in braces, which are the names of tables or:
//
//	now         microseconds since 1970 by the database's clock, read after the statement
//	            has begun
//	int         the type of a BIGINT, for CAST
//	read-only   1 if this server does not write, or else 0
//	writes      true if this server writes
//	lock        has a SELECT lock its rows
//	timeline    appends to the name of the store the history that the server writes
//	turn        has those wait at the gate that come later than this transaction
//	share       has a SELECT lock its rows so that others can still read them
//	idle        has the database end this transaction if nothing more comes of it for
//	            ten seconds
//	lasting     has the commit of this transaction outlast a crash of the database
//	ignore      }  have an INSERT do nothing
//	unless      }  if the row is there
//	replace     has an INSERT of a record replace the one that is there
//	space-name  the types of names and values: compared byte for byte
//	key
//	value
//	all         has a SELECT return all rows
//	plain       the options of a table
//	hot         those of a table whose rows are often updated
type dialect struct {
	numbered bool     // $1 instead of ?
	begin    []string // how a transaction begins that will write
	end      []string // what its connection needs when it has ended
	gate     string   // has a transaction of the application wait for its turn in space %x, or write; "": no need
	unfit    string   // selects the setting for which a connection will not do, or NULL; "": there is none
	notify   string   // the end of an UPDATE of one row, which tells a channel of a payload; "": there is none
	file     string   // selects the file that the database is in; "": it is in none
	words    map[string]string
	faults   faults
}

// expand returns a statement in the words of the database.
func (s *Store) expand(statement string) string {
	prefix := s.Prefix
	if prefix == "" {
		prefix = defaultPrefix
	}
	var b strings.Builder
	arguments := 0
	for {
		at := strings.IndexAny(statement, "{?")
		if at < 0 {
			b.WriteString(statement)
			return b.String()
		}
		b.WriteString(statement[:at])
		if statement[at] == '?' {
			arguments++
			if s.lang.numbered {
				b.WriteString("$" + strconv.Itoa(arguments))
			} else {
				b.WriteByte('?')
			}
			statement = statement[at+1:]
			continue
		}
		word, rest, _ := strings.Cut(statement[at+1:], "}")
		if text, is := s.lang.words[word]; is {
			b.WriteString(text)
		} else {
			b.WriteString(prefix + word)
		}
		statement = rest
	}
}
