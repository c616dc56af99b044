package sqlstore_test

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/internal/teststore"
	"github.com/libcluster/libcluster/sqlstore"
)

// join returns an instance with a pool of its own.
func join(c *teststore.Company, s system, url, id string, workers int) (*teststore.Member, *sql.DB) {
	c.Helper()
	db := testsql.Open(c, s.driver, url)
	return c.Member(s.store(db), id, workers), db
}

func TestClusterOnADatabase(t *testing.T) {
	t.Parallel()
	for _, s := range all {
		if s.name == onMariaDB.name {
			continue // it is like the others here
		}
		for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive} {
			t.Run(s.name+"/"+mode.String(), func(t *testing.T) {
				t.Parallel()
				url := s.url(t)
				c := teststore.NewCompany(t, mode)
				a, _ := join(c, s, url, "a", 2)
				b, _ := join(c, s, url, "b", 1)
				killed, db := join(c, s, url, "c", 4)
				all, ctx := errgroup.WithContext(patience(t))
				for _, m := range []*teststore.Member{a, b, killed} {
					all.Go(func() error { return m.Join(ctx) })
				}
				require.NoError(t, all.Wait())
				c.Tile(7, a, b, killed)
				c.Covered(b)

				require.NoError(t, b.Leave(patience(t)))
				c.Tile(6, a, killed)

				require.NoError(t, db.Close())
				c.Tile(2, a)
				require.Equal(t, -1, killed.State().Index, "it has stopped before another one has its indexes")
				c.Covered(a)

				require.NoError(t, a.Leave(patience(t)))
				rows, err := testsql.Open(t, s.driver, url).QueryContext(patience(t), `SELECT name FROM libcluster_record`)
				require.NoError(t, err)
				defer rows.Close()
				for rows.Next() {
					var name []byte
					require.NoError(t, rows.Scan(&name))
					require.True(t, mode != libcluster.ModeDirect && strings.HasPrefix(string(name), "/"), "%q is left", name)
				}
				require.NoError(t, rows.Err())
			})
		}
	}
}

func TestInstanceRejoinsWithThreeConnections(t *testing.T) {
	t.Parallel()
	on(t, all, func(t *testing.T, _ *sql.DB, _ *sqlstore.Store) {
		s := systemOf(t)
		url := s.url(t)
		c := teststore.NewCompany(t, libcluster.ModeDirect)
		m, db := join(c, s, url, "a", 1)
		db.SetMaxOpenConns(3)
		require.NoError(t, m.Join(patience(t)))
		before := m.State().Generation
		exec(t, testsql.Open(t, s.driver, url), `DELETE FROM libcluster_record`)
		c.TileAfter(before, 1, m)
		require.NoError(t, m.Leave(patience(t)))
	})
}
