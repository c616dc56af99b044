package dirstore_test

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
)

var atRest = flag.Duration("at-rest", 2*time.Second, "for how long ten instances in a folder must lose none")

// company is instances in one folder, each with a store of its own.
type company struct {
	all  []*libcluster.Cluster
	lost atomic.Int64 // how often one has seen that another one was gone

	primaries atomic.Int64 // that have been told so
	two       atomic.Bool  // at once, ever
}

// newCompany has so many start in the same instant, and waits until they agree.
func newCompany(t *testing.T, mode libcluster.Mode, n int, with ...func(*dirstore.Store)) *company {
	t.Helper()
	c := &company{}
	dir := shm(t)
	for i := range n {
		store := dirstore.Dir(dir)
		for _, set := range with {
			set(store)
		}
		instance, err := libcluster.New(libcluster.Config{
			Key: "company", ID: fmt.Sprint(i), Mode: mode, Registry: libcluster.OnStore(store), Logger: zap.NewNop(),
			OnMembers: func(change libcluster.MembersChange) { c.lost.Add(int64(len(change.Left))) },
			OnPrimary: func(primary bool) {
				if !primary {
					c.primaries.Add(-1)
				} else if c.primaries.Add(1) > 1 {
					c.two.Store(true)
				}
			},
		})
		require.NoError(t, err)
		c.all = append(c.all, instance)
	}
	c.each(t, func(ctx context.Context, i *libcluster.Cluster) error { return i.Join(ctx) })
	c.agree(t, n)
	return c
}

// agree waits until all act in one generation.
func (c *company) agree(t *testing.T, total int) {
	t.Helper()
	require.Eventually(t, func() bool {
		generation := c.all[0].State().Generation
		for _, i := range c.all {
			if s := i.State(); !s.Active() || s.Total != total || s.Generation != generation {
				return false
			}
		}
		return true
	}, watchdog, time.Millisecond)
}

// each does something with each at once.
func (c *company) each(t *testing.T, do func(context.Context, *libcluster.Cluster) error) {
	t.Helper()
	all, ctx := errgroup.WithContext(patience(t))
	for _, i := range c.all {
		all.Go(func() error { return do(ctx, i) })
	}
	require.NoError(t, all.Wait())
}

func (c *company) leave(t *testing.T) {
	t.Helper()
	c.each(t, func(ctx context.Context, i *libcluster.Cluster) error { return i.Leave(ctx) })
}

// primary returns which one is the primary.
func (c *company) primary(t *testing.T) (primary string) {
	t.Helper()
	for _, i := range c.all {
		require.NoError(t, i.Err())
		if i.State().Primary() {
			require.Empty(t, primary, "there is one")
			primary = i.ID()
		}
	}
	require.NotEmpty(t, primary)
	return primary
}

// The folder holds nothing, and nobody has started before.
func TestStartInTheSameInstantMakesOnePrimary(t *testing.T) {
	t.Parallel()
	const times = 50
	for _, mode := range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive} {
		for _, n := range []int{2, 3} {
			t.Run(fmt.Sprint(n, " in mode ", mode), func(t *testing.T) {
				t.Parallel()
				for range times {
					c := newCompany(t, mode, n)
					c.primary(t)
					require.Zero(t, c.lost.Load(), "none has died")
					c.leave(t)
					if mode == libcluster.ModeExclusive {
						require.False(t, c.two.Load(), "there have never been two")
					}
				}
			})
		}
	}
}

func TestTenInstancesAtRestLoseNone(t *testing.T) {
	t.Parallel()
	c := newCompany(t, libcluster.ModePlanned, 10)
	primary, generation := c.primary(t), c.all[0].State().Generation
	<-time.After(*atRest)
	require.Equal(t, primary, c.primary(t))
	require.Equal(t, generation, c.all[0].State().Generation)
	require.Zero(t, c.lost.Load())
	c.leave(t)
}

// Each call of files fails now and then, and of those that fail every other one was carried out.
func TestFilesThatFailNowAndThenCostNobodyItsPlace(t *testing.T) {
	t.Parallel()
	const one, of, changes = 1, 30, 10
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			var failed atomic.Int64
			fail := func(call, name string, do func() error) error {
				if rand.IntN(of) >= one {
					return do()
				}
				if failed.Add(1)%2 == 0 {
					_ = do() // and the answer is lost
				}
				return &fs.PathError{Op: call, Path: name, Err: syscall.EIO}
			}
			c := newCompany(t, mode, 3, func(s *dirstore.Store) { s.Around(fail) })
			c.lost.Store(0) // an attempt to join that has failed may have been seen
			workers := []int{1, 1, 1}
			for change := range changes {
				n := change % len(c.all)
				workers[n]++
				_ = c.all[n].SetWorkers(patience(t), workers[n]) // what has failed is tried again
				c.agree(t, len(c.all)+change+1)
			}
			require.Positive(t, failed.Load())
			require.Zero(t, c.lost.Load(), "nobody was put out")
			if mode == libcluster.ModeExclusive {
				require.False(t, c.two.Load(), "there have never been two")
			}
			for _, i := range c.all {
				for why, times := range i.Stats().Fences {
					require.Zero(t, times, why)
				}
				_ = i.Leave(patience(t)) // what it cannot remove goes with its lease
			}
		})
	}
}
