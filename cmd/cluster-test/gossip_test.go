package main

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestInstancesGossip(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	registry := "gossip:" + l.Addr().String()
	require.NoError(t, l.Close())

	a := start(t, "-r", registry, "-i", "a", "-n", "2")
	a.stderr.awaitText(t, "sleeping until terminated\n")
	b := start(t, "-r", registry, "-i", "b", "--nodes", "2")
	b.stderr.awaitText(t, "total thread count:    4")
	a.stderr.awaitText(t, "total thread count:    4")

	ls := start(t, "ls", "-r", registry)
	require.Equal(t, exitOK, ls.ends(t), "%s", ls.stderr)
	require.Regexp(t, `(?m)^a +2 +0-1 `, ls.stdout.String())
	require.Regexp(t, `(?m)^b1 +1 +2$`, ls.stdout.String())
	require.Regexp(t, `(?m)^b2 +1 +3$`, ls.stdout.String())
	watch := start(t, "watch", "-r", registry)
	watch.stdout.awaitText(t, "total 4\n")
	b.signal()
	require.Equal(t, exitOK, b.ends(t), "%s", b.stderr)
	watch.stdout.awaitText(t, "total 2\n")
	for _, p := range []*running{a, watch} {
		p.signal()
		require.Equal(t, exitOK, p.ends(t), "%s", p.stderr)
	}
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
		require.Equal(t, exitUsage, p.ends(t))
		require.Contains(t, p.stderr.String(), want)
	}
}
