package peers_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/peers"
)

// operator returns a client of the peers of a file, and a time to ask them something.
func operator(t *testing.T, file string) (*peers.Peers, context.Context) {
	c, err := peers.ReadConfig(file)
	require.NoError(t, err)
	p, err := peers.New(c.Client())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return p, ctx
}

func TestOperatorsRemoveAPeer(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "direct", files(t, 3, nil)...)
	awaitAll(t, "a", 3, all...)
	p, ctx := operator(t, all[0].file) // also of a itself
	address := func(id string) string { peer, _ := p.Peer(id); return peer.Address }
	require.ErrorContains(t, p.Remove(ctx, "nobody"), fmt.Sprintf(
		`peers: remove "nobody": the cluster has no such peer; it has a (%s), b (%s), c (%s)`, address("a"), address("b"), address("c")))

	require.NoError(t, p.Remove(ctx, fmt.Sprint("LocalHost:", port(t, address("c")))))
	awaitAll(t, "a", 2, all[:2]...)
	_, voters := store(t, all[0])
	require.Equal(t, 2, voters)
	all[2].says(t, "if this peer was removed")

	require.NoError(t, p.Remove(ctx, "b"))
	awaitAll(t, "a", 1, all[0])
	err := p.Remove(ctx, "a")
	require.ErrorContains(t, err, "The last peer is not removed")
	require.NotErrorIs(t, err, peers.ErrNoMajority)
	all[0].kill()
	ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Remove(ctx, "a"), peers.ErrNoMajority)
}

func TestPeerWithoutWhomTooFewRunIsNotRemoved(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "direct", files(t, 3, nil)...)
	awaitAll(t, "a", 3, all...)
	all[2].kill()
	p, ctx := operator(t, all[0].file)
	for timeout := time.Second; ; timeout *= 2 { // a slow machine needs more to see the cluster at all
		attempt, cancel := context.WithTimeout(ctx, timeout)
		err := p.Remove(attempt, "b")
		cancel()
		if ctx.Err() != nil || !errors.Is(err, peers.ErrNoMajority) {
			require.ErrorContains(t, err, "too few others run to go on without it")
			break
		}
	}
	require.NoError(t, p.Remove(ctx, "c")) // which does not run
	_, voters := store(t, all[0])
	require.Equal(t, 2, voters)
}
