// Package fencing shows that a database refuses the late write of an instance whose
// place is another one's by now. It holds an example and tests only: the statements
// are those in the documentation of libcluster, which the tests read from there, and
// the database is SQLite.
package fencing
