package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testhost"
)

// listed has two clusters be in a registry, and lists them.
func listed(t *testing.T, registry ...string) {
	t.Helper()
	args := append([]string{"-k", key(t)}, registry...)
	clusters := append([]string{"clusters"}, args...)
	joined(t, libcluster.ModePlanned, "a", 1, args...)
	joined(t, libcluster.ModeDirect, "a", 1, append(args, "-p", "north", "-e", "test")...)
	require.Equal(t, "key"+strings.Repeat(" ", len(key(t))-3)+"  partition name  env         mode\n"+
		key(t)+"                  production  planned\n"+
		key(t)+"  north           test        direct\n", printed(t, clusters...))
	require.Equal(t, "key"+strings.Repeat(" ", len(key(t))-3)+"  env         mode\n"+
		key(t)+"  production  planned\n", printed(t, append(clusters, "-e", "production")...))

	var c named
	require.NoError(t, json.Unmarshal([]byte(printed(t, append(clusters, "-p", "north", "-o", "json")...)), &c))
	require.Equal(t, named{key(t), "north", "test", libcluster.ModeDirect}, c)
	require.Contains(t, printed(t, append([]string{"clusters"}, registry...)...), key(t))
}

func TestClustersOfAnEtcdAreListed(t *testing.T) {
	require.Equal(t, "no clusters with members\n", printed(t, "clusters", "-k", key(t), "-r", etcdURL(t)))
	listed(t, "-r", etcdURL(t))
}

func TestClustersInAFileAreListed(t *testing.T) {
	t.Parallel()
	for name, registry := range map[string][]string{
		"SQLite":     {"-r", "sqlite:" + filepath.Join(t.TempDir(), "c.db")},
		"folder":     {"-r", "dir:" + t.TempDir()},
		"heartbeats": {"-r", "dir:" + t.TempDir(), "--heartbeats", "127.0.0.1:0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listed(t, registry...)
		})
	}
}

func TestClustersOfPeersAreListed(t *testing.T) {
	t.Parallel()
	file := peersNamed(t, "a")[0]
	require.Equal(t, "key"+strings.Repeat(" ", len(key(t))-3)+"  env         mode\n"+
		key(t)+"  production  direct\n", printed(t, "clusters", "-r", "peers:"+file))
}

func TestRegistryThatCannotListItsClustersSaysSo(t *testing.T) {
	t.Parallel()
	status, text := failing(t, "clusters", "-r", "gossip:"+testhost.FreeAddress(t))
	require.Equal(t, exitUsage, status)
	require.Contains(t, text, "cannot tell which clusters there are; to see one, name it: libcluster ls -k KEY")
	status, text = failing(t, "clusters")
	require.Equal(t, exitUsage, status)
	require.Contains(t, text, "LIBCLUSTER_REGISTRY")
}

func TestListingMakesNoRegistry(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none")
	for _, registry := range []string{"dir:" + none, "sqlite:" + none} {
		status, text := failing(t, "clusters", "-r", registry)
		require.Equal(t, exitUnseen, status)
		require.Contains(t, text, none+": no such file or directory")
		require.NoFileExists(t, none)
	}
	empty := filepath.Join(t.TempDir(), "c.db") // which the application has made
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	require.Equal(t, "no clusters with members\n", printed(t, "clusters", "-r", "sqlite:"+empty))
}
