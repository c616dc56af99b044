package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

func TestClustersOfAnEtcdAreListed(t *testing.T) {
	args := []string{"-k", key(t), "-r", etcdURL(t)}
	clusters := append([]string{"clusters"}, args...)
	require.Equal(t, "no clusters with members\n", printed(t, clusters...))
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
	require.Contains(t, printed(t, "clusters", "-r", etcdURL(t)), key(t))
}

func TestRegistryThatCannotListItsClustersSaysSo(t *testing.T) {
	status, text := failing(t, "clusters", "-r", "dir:"+t.TempDir())
	require.Equal(t, exitUsage, status)
	require.Contains(t, text, "cannot tell which clusters it holds: only an etcd can")
	status, text = failing(t, "clusters")
	require.Equal(t, exitUsage, status)
	require.Contains(t, text, "LIBCLUSTER_REGISTRY")
}
