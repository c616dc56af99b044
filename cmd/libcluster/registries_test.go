package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/registryflag"
	"github.com/libcluster/libcluster/internal/testhost"
)

// joined has an instance join in the registry that flags name.
func joined(t *testing.T, mode libcluster.Mode, id string, workers int, args ...string) *libcluster.Cluster {
	t.Helper()
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f := addFlags(set)
	require.NoError(t, set.Parse(args))
	registry, config, err := f.open(t.Context(), registryflag.Use{Instances: 1}, zap.NewNop())
	require.NoError(t, err)
	config.Mode, config.ID, config.Workers = mode, id, workers
	c, err := libcluster.New(config)
	require.NoError(t, err)
	t.Cleanup(func() {
		leave(t, c)
		require.NoError(t, registry.Close())
	})
	require.NoError(t, c.Join(t.Context()))
	return c
}

// seen has instances join and leave, and looks at them. It returns all that was printed.
func seen(t *testing.T, mode libcluster.Mode, registry ...string) string {
	t.Helper()
	args := append([]string{"-v", "-k", key(t)}, registry...)
	a, b := joined(t, mode, "a", 2, args...), joined(t, mode, "b", 1, args...)

	watch := start(t, append([]string{"watch"}, args...)...)
	watch.Stdout.AwaitText(t, "a             2      0-1  primary\nb             1        2\n")
	ls := start(t, append([]string{"ls"}, args...)...)
	require.Zero(t, ls.Ends(t), "%s", ls.Stderr)
	require.Regexp(t, `(?m)^a +2 +0-1  primary$`, ls.Stdout.String())
	require.Regexp(t, `(?m)^b +1 +2$`, ls.Stdout.String())
	leave(t, b)
	watch.Stdout.AwaitText(t, "total 2\n")
	watch.Signal()
	require.Zero(t, watch.Ends(t), "%s", watch.Stderr)
	leave(t, a)
	return fmt.Sprint(ls.Stdout, ls.Stderr, watch.Stdout, watch.Stderr)
}

func TestClustersInAFileAreSeen(t *testing.T) {
	t.Parallel()
	for _, registry := range []string{"SQLite:" + filepath.Join(t.TempDir(), "100 % #1?.db"), "Dir:" + t.TempDir()} {
		t.Run(registry[:3], func(t *testing.T) {
			t.Parallel()
			require.Contains(t, seen(t, libcluster.ModeExclusive, "-r", registry), "every index is held once")
		})
	}
}

func TestClustersOfInstancesThatGossipAreSeen(t *testing.T) {
	t.Parallel()
	seen(t, libcluster.ModeDirect, "-r", "gossip:"+testhost.FreeAddress(t))
}

func TestClustersOfPeersAreSeen(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a.json")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `{"identifier": "a", "listen_host": "127.0.0.1", "listen_port": %d, "peers": []}`, testhost.FreePort(t)), 0o600))
	args := []string{"-k", key(t), "-r", "peers:" + file}
	joined(t, libcluster.ModePlanned, "a", 2, args...)
	require.Regexp(t, `(?m)^a +2 +0-1  primary$`, printed(t, append([]string{"ls"}, args...)...))
}
