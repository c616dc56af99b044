package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testcommand"
)

func TestWhatOthersWroteIsQuotedInTheLogOfAnInstance(t *testing.T) {
	testcommand.Hostile(t, etcdURL(t), key(t), "planned")
	p := start(t, "-v", "--mode", "planned", "-i", "node", "-k", key(t), "-r", etcdURL(t))
	p.stderr.AwaitText(t, "slow")
	p.Signal()
	require.Equal(t, exitOK, p.Ends(t))
	testcommand.RequirePlain(t, p.stderr.String())
}
