package teststore

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/kv"
)

// watchdog ends a test that does not come to its end. No other time is judged.
const watchdog = 2 * time.Minute

// Patience returns a context for what must happen.
func Patience(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	t.Cleanup(cancel)
	return ctx
}

// Folder returns a folder in memory, until the test has ended.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "libcluster")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// Owner returns one that no lease has.
func Owner() kv.Owner { return kv.Owner(1 + rand.Int64N(math.MaxInt64)) }

// Company is a cluster, each of whose instances has a store of its own.
type Company struct {
	*testing.T
	Logger *zap.Logger // its instances'; none by default
	mode   libcluster.Mode
}

// Member is an instance of a company.
type Member struct{ *libcluster.Cluster }

// NewCompany returns a cluster without an instance.
func NewCompany(t *testing.T, mode libcluster.Mode) *Company {
	return &Company{T: t, mode: mode}
}

// Member returns an instance that has not joined yet.
func (c *Company) Member(store kv.Store, id string, workers int) *Member {
	m := &Member{}
	var err error
	m.Cluster, err = libcluster.New(libcluster.Config{
		Key: "company", ID: id, Workers: workers, Mode: c.mode, TTL: 6 * time.Second,
		Registry: libcluster.OnStore(store), Logger: c.Logger,
	})
	require.NoError(c, err)
	c.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = m.Leave(ctx) // it has left, or was killed
	})
	return m
}

// Tile waits until the members, and nobody else, divide all between them.
func (c *Company) Tile(total int, members ...*Member) {
	c.Helper()
	c.TileAfter(0, total, members...)
}

// TileAfter waits until they do so in a later generation. It reads the states: a new
// generation by itself calls nobody back.
func (c *Company) TileAfter(generation int64, total int, members ...*Member) {
	c.Helper()
	var states []libcluster.State
	require.Eventually(c, func() bool {
		states = nil
		for _, m := range members {
			states = append(states, m.State())
		}
		return tiles(states, total) && states[0].Generation > generation
	}, watchdog, time.Millisecond, "they do not come to agree: %d in all: %+v", total, &states)
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

// Covered waits until a member finds every index held.
func (c *Company) Covered(m *Member) {
	c.Helper()
	for ctx := Patience(c); ; {
		coverage, err := m.Coverage(ctx)
		require.NoError(c, err)
		if coverage.Covered {
			return
		}
	}
}
