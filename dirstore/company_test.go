package dirstore_test

import (
	"context"
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
func newCompany(t *testing.T, mode libcluster.Mode, n int) *company {
	t.Helper()
	c := &company{}
	dir := shm(t)
	for i := range n {
		instance, err := libcluster.New(libcluster.Config{
			Key: "company", ID: fmt.Sprint(i), Mode: mode, Registry: libcluster.OnStore(dirstore.Dir(dir)),
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
	require.Eventually(t, func() bool {
		generation := c.all[0].State().Generation
		for _, i := range c.all {
			if s := i.State(); !s.Active() || s.Total != n || s.Generation != generation {
				return false
			}
		}
		return true
	}, watchdog, time.Millisecond)
	return c
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
