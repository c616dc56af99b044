package dirstore_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/internal/teststore"
	"github.com/libcluster/libcluster/kv"
)

func TestClusterInAFolder(t *testing.T) {
	t.Parallel()
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive} {
		for _, network := range []bool{false, true} {
			name := mode.String()
			if network {
				name += " on a network"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir := shm(t)
				var cut atomic.Bool // the folder cannot be reached
				store := func(around func(call, name string, do func() error) error) *dirstore.Store {
					s := dirstore.Dir(dir)
					s.Network = network
					if around != nil {
						s.Around(around)
					}
					return s
				}
				c := teststore.NewCompany(t, mode)
				a, b := c.Member(store(nil), "a", 2), c.Member(store(nil), "b", 1)
				lost := c.Member(store(func(_, _ string, do func() error) error {
					if cut.Load() {
						return errors.New("the folder cannot be reached")
					}
					return do()
				}), "c", 4)
				all, ctx := errgroup.WithContext(teststore.Patience(t))
				for _, m := range []*teststore.Member{a, b, lost} {
					all.Go(func() error { return m.Join(ctx) })
				}
				require.NoError(t, all.Wait())
				c.Tile(7, a, b, lost)
				c.Covered(b)

				require.NoError(t, b.Leave(teststore.Patience(t)))
				c.Tile(6, a, lost)

				cut.Store(true)
				c.Tile(2, a)
				require.Equal(t, -1, lost.State().Index, "it has stopped before another one has its indexes")
				c.Covered(a)

				require.NoError(t, a.Leave(teststore.Patience(t)))
				space, err := store(nil).Open(teststore.Patience(t), "company/production")
				require.NoError(t, err)
				defer space.Close()
				_, err = space.List(teststore.Patience(t), "", func(r kv.Record) error {
					require.True(t, mode != libcluster.ModeDirect && strings.HasPrefix(r.Key, "/"), "%q is left", r.Key)
					return nil
				})
				require.NoError(t, err)
			})
		}
	}
}
