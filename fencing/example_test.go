package fencing_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	_ "modernc.org/sqlite"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// Account 7 belongs to the instance that has 7 modulo the total. One instance decides to write to
// it, and is held up before it does: by its garbage collector, its hypervisor, a
// network. When the write arrives the account is another one's.
func Example() {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // each would have a database of its own
	if _, err := db.Exec(`
		CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, fence BIGINT NOT NULL DEFAULT 0);
		INSERT INTO account (id, balance) VALUES (7, 100)`); err != nil {
		log.Fatal(err)
	}
	write := func(who string, s libcluster.State, balance int) {
		result, err := db.Exec(`UPDATE account SET balance = ?, fence = ? WHERE id = ? AND fence <= ?`,
			balance, s.Generation, 7, s.Generation)
		if err != nil {
			log.Fatal(err)
		}
		written := "refused"
		if n, err := result.RowsAffected(); err == nil && n == 1 {
			written = "written"
		}
		fmt.Printf("%s, at %d of %d: %s\n", who, s.Index, s.Total, written)
	}

	registry := libclustertest.New() // in an application: libcluster.Etcd
	join := func(id string) *libcluster.Cluster {
		c, err := libcluster.New(libcluster.Config{Key: "bank", ID: id, Mode: libcluster.ModeExclusive, Registry: registry})
		if err != nil {
			log.Fatal(err)
		}
		if err := c.Join(context.Background()); err != nil {
			log.Fatal(err)
		}
		return c
	}
	a := join("a")
	defer a.Leave(context.Background())
	state := a.State()
	write("a", state, 90)

	b := join("b")
	defer b.Leave(context.Background())
	write("b", b.State(), 50)
	write("a, late", state, 80)
	// Output:
	// a, at 0 of 1: written
	// b, at 1 of 2: written
	// a, late, at 0 of 1: refused
}
