package sqlstore_test

import (
	"database/sql"
	"testing"

	"github.com/libcluster/libcluster/internal/teststore"
	"github.com/libcluster/libcluster/kv"
)

func newApart(s system, db *sql.DB) *teststore.Apart {
	return teststore.NewApart(func() kv.Store { return s.store(db) })
}

func TestSQLStoresKeepThePromises(t *testing.T) {
	t.Parallel()
	keepThePromises(t, newApart)
}

// keepThePromises holds all systems to the promises.
func keepThePromises(t *testing.T, apart func(system, *sql.DB) *teststore.Apart) {
	t.Helper()
	// One file has one writer at a time, so each test has its own.
	t.Run(onSQLite.name, func(t *testing.T) {
		teststore.KeepsThePromises(t, func(t *testing.T) *teststore.Apart { return apart(onSQLite, onSQLite.db(t)) })
	})
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			db := s.db(t)
			teststore.KeepsThePromises(t, func(*testing.T) *teststore.Apart { return apart(s, db) })
		})
	}
}
