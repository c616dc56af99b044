package sqlstore_test

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/sqlstore"
)

// company is a cluster, each of whose instances has a pool of its own.
type company struct {
	*testing.T
	mode libcluster.Mode
	log  *zap.Logger   // none by default
	news chan struct{} // there is another state than before

	mu     sync.Mutex
	states map[string]libcluster.State // by the instance's ID, as the application was told
}

// member is an instance of a company.
type member struct {
	*libcluster.Cluster
	id string
	db *sql.DB
}

func (c *company) join(s system, url, id string, workers int) *member {
	db := testsql.Open(c, s.driver, url)
	return c.on(s.store(db), db, id, workers)
}

// on returns an instance on a store in a database.
func (c *company) on(store *sqlstore.Store, db *sql.DB, id string, workers int) *member {
	m := &member{id: id, db: db}
	var err error
	m.Cluster, err = libcluster.New(libcluster.Config{
		Key: "company", ID: id, Workers: workers, Mode: c.mode, TTL: 3 * time.Second,
		Registry: libcluster.OnStore(store), Logger: c.log,
		OnRebalance: func(state libcluster.State) {
			c.mu.Lock()
			c.states[id] = state
			c.mu.Unlock()
			select {
			case c.news <- struct{}{}:
			default:
			}
		},
	})
	require.NoError(c, err)
	c.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = m.Leave(ctx) // it has left, or was killed
	})
	return m
}

// tile waits until the members, and nobody else, divide all between them.
func (c *company) tile(total int, members ...*member) {
	c.Helper()
	c.tileAfter(0, total, members...)
}

// tileAfter waits until they do so in a later generation.
func (c *company) tileAfter(generation int64, total int, members ...*member) {
	c.Helper()
	ctx := patience(c)
	for {
		c.mu.Lock()
		var states []libcluster.State
		for _, m := range members {
			states = append(states, c.states[m.id])
		}
		c.mu.Unlock()
		if tiles(states, total) && states[0].Generation > generation {
			return
		}
		select {
		case <-c.news:
		case <-ctx.Done():
			require.Fail(c, "they do not come to agree", "%d in all: %+v", total, states)
		}
	}
}

func tiles(states []libcluster.State, total int) bool {
	slices.SortFunc(states, func(a, b libcluster.State) int { return cmp.Compare(a.Index, b.Index) })
	next := 0
	for _, s := range states {
		if s.Index != next || s.Total != total || s.Generation != states[0].Generation {
			return false
		}
		next += s.Workers
	}
	return next == total
}

// covered waits until a member finds every index held.
func (c *company) covered(m *member) {
	c.Helper()
	for ctx := patience(c); ; {
		coverage, err := m.Coverage(ctx)
		require.NoError(c, err)
		if coverage.Covered {
			return
		}
	}
}

func newCompany(t *testing.T, mode libcluster.Mode) *company {
	return &company{T: t, mode: mode, news: make(chan struct{}, 1), states: map[string]libcluster.State{}}
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
				c := newCompany(t, mode)
				a, b, killed := c.join(s, url, "a", 2), c.join(s, url, "b", 1), c.join(s, url, "c", 4)
				all, ctx := errgroup.WithContext(patience(t))
				for _, m := range []*member{a, b, killed} {
					all.Go(func() error { return m.Join(ctx) })
				}
				require.NoError(t, all.Wait())
				c.tile(7, a, b, killed)
				c.covered(b)

				require.NoError(t, b.Leave(patience(t)))
				c.tile(6, a, killed)

				require.NoError(t, killed.db.Close())
				c.tile(2, a)
				require.Equal(t, -1, killed.State().Index, "it has stopped before another one has its indexes")
				c.covered(a)

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
		c := newCompany(t, libcluster.ModeDirect)
		m := c.join(s, url, "a", 1)
		m.db.SetMaxOpenConns(3)
		require.NoError(t, m.Join(patience(t)))
		before := m.State().Generation
		exec(t, testsql.Open(t, s.driver, url), `DELETE FROM libcluster_record`)
		c.tileAfter(before, 1, m)
		require.NoError(t, m.Leave(patience(t)))
	})
}
