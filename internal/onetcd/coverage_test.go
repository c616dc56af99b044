package onetcd_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// coverage asks until there is an answer: it is given up after some seconds, which a busy
// etcd may need.
func (i *instance) coverage() (c libcluster.Coverage) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	for c, err = i.Coverage(ctx); errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil; {
		c, err = i.Coverage(ctx)
	}
	require.NoError(i.t, err)
	return c
}

func (i *instance) becomesCovered(total int) {
	i.t.Helper()
	require.Eventually(i.t, func() bool {
		c := i.coverage()
		return c.Covered && c.Total == total && len(c.Problems) == 0
	}, patience, 10*time.Millisecond)
}

func TestCoverageOnEtcd(t *testing.T) {
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			cluster, client := key(t), etcdClient(t)
			var all []*instance
			for n := range 3 {
				all = append(all, start(t, libcluster.Config{Key: cluster, ID: fmt.Sprintf("node%d", n), Workers: 2, Mode: mode, TTL: 10 * time.Second}))
			}
			watching := start(t, libcluster.Config{Key: cluster, ID: "x", Passive: true, Mode: mode})
			for _, i := range append(all, watching) {
				i.becomesCovered(6)
				require.Len(t, i.coverage().Assignments, 3)
			}

			// An orphan, and one who has left for a restart.
			_, err := client.Put(t.Context(), "/"+cluster+"/production/orphan", "3")
			require.NoError(t, err)
			c := watching.coverage()
			require.Equal(t, mode != libcluster.ModeDirect, c.Covered)
			require.Len(t, c.Problems, 1)
			require.Equal(t, libcluster.ProblemOrphan, c.Problems[0].Kind)
			require.Equal(t, "orphan", c.Problems[0].ID)
			_, err = client.Delete(t.Context(), "/"+cluster+"/production/orphan")
			require.NoError(t, err)
			watching.becomesCovered(6)

			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			require.NoError(t, all[1].Leave(ctx, libcluster.Returning(time.Minute)))
			for _, i := range []*instance{all[0], all[2], watching} {
				c := i.coverage()
				require.False(t, c.Covered)
				require.Len(t, c.Problems, 1, "%v", c.Problems)
				require.Equal(t, libcluster.ProblemReserved, c.Problems[0].Kind)
				require.Equal(t, "node1", c.Problems[0].ID)
			}
			require.NoError(t, all[1].Join(ctx))
			watching.becomesCovered(6)
		})
	}
}
