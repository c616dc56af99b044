package heartbeats_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/heartbeats"
	"github.com/libcluster/libcluster/internal/teststore"
)

// Instances without heartbeats are members as all others are, and take no records of heartbeats for
// what a stranger has written.
func TestInstancesWithAndWithoutHeartbeatsMix(t *testing.T) {
	t.Parallel()
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			dir := shm(t)
			core, logs := observer.New(zap.WarnLevel)
			c := teststore.NewCompany(t, mode)
			c.Logger = zap.New(core)
			bare := c.Member(dirstore.Dir(dir), "bare", 1)
			require.NoError(t, bare.Join(patience(t)))
			a := c.Member(heartbeats.Beside(dirstore.Dir(dir), loopback), "a", 2)
			b := c.Member(heartbeats.Beside(dirstore.Dir(dir), loopback), "b", 3)
			require.NoError(t, a.Join(patience(t)))
			require.NoError(t, b.Join(patience(t)))
			c.Tile(6, bare, a, b)
			c.Covered(bare)
			require.NoError(t, a.Leave(patience(t)))
			c.Tile(4, bare, b)
			require.NoError(t, bare.Leave(patience(t)))
			require.Empty(t, logs.FilterMessageSnippet("not a member's").All())
		})
	}
}
