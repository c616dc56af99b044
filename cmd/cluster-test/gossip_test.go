package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testhost"
)

func TestInstancesGossip(t *testing.T) {
	t.Parallel()
	registry := "gossip:" + testhost.FreeAddress(t)

	a := start(t, "-r", registry, "-i", "a", "-n", "2")
	a.stderr.AwaitText(t, "sleeping until terminated\n")
	b := start(t, "-r", registry, "-i", "b", "--nodes", "2")
	b.stderr.AwaitText(t, "total thread count:    4")
	a.stderr.AwaitText(t, "total thread count:    4")

	b.Signal()
	require.Equal(t, exitOK, b.Ends(t), "%s", b.stderr)
	a.stderr.AwaitText(t, "total thread count:    2\n")
	a.Signal()
	require.Equal(t, exitOK, a.Ends(t), "%s", a.stderr)
}

func TestMistakeInGossipIsOneOfTheCommandLine(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"names no address; must be gossip:HOST:PORT":                  {"-r", "gossip:"},
		`gossip.Config.Seeds[1]: "b" must be HOST:PORT`:               {"-r", "gossip:a:1,b"},
		"it must be ModeDirect":                                       {"-r", "gossip:a:1", "--exclusive"},
		"is for an etcd; instances that gossip have a secret instead": {"-r", "gossip:a:1", "--user", "x"},
	} {
		p := start(t, args...)
		require.Equal(t, exitUsage, p.Ends(t))
		require.Contains(t, p.stderr.String(), want)
	}
}
