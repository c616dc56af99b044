//go:build linux && faults

package faults_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/peers"
)

// delayed returns three peers that reach one another by lines on which each way takes so long.
func delayed(t *testing.T, way, election time.Duration) (all []*peers.Peers) {
	var list []peers.Peer
	var listen []string
	for n := range 3 {
		listen = append(listen, freeAddress(t))
		l := startLine(t, listen[n], nil)
		l.up.delay, l.down.delay = way, way
		list = append(list, peers.Peer{ID: fmt.Sprint("peer-", n), Address: l.address()})
	}
	for n, self := range list {
		p, err := peers.New(peers.Config{
			ID: self.ID, Listen: listen[n], Peers: list, DataDir: filepath.Join(t.TempDir(), self.ID), Election: election,
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, p.Close()) })
		all = append(all, p)
	}
	return all
}

// The election is five times as long as a message and its answer. With the default, which is shorter
// than these, no leader lasts, and nobody joins.
func TestPeersFarFromOneAnotherKeepTheirPlaces(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var clusters []*libcluster.Cluster
	var joining sync.WaitGroup
	var lost atomic.Int64
	for _, p := range delayed(t, 200*time.Millisecond, 2*time.Second) {
		c, err := libcluster.New(libcluster.Config{
			Key: "far", ID: p.Self().ID, Registry: p, Logger: zap.NewNop(),
			OnRebalance: func(s libcluster.State) {
				if !s.Active() {
					lost.Add(1)
				}
			},
		})
		require.NoError(t, err)
		clusters = append(clusters, c)
		joining.Go(func() {
			if err := c.Join(ctx); err != nil {
				t.Error(c.ID(), err)
			}
		})
		t.Cleanup(func() {
			ended, end := context.WithCancel(context.Background())
			end()
			_ = c.Leave(ended) // the last ones have no majority
		})
	}
	joining.Wait()
	for _, c := range clusters {
		await(t, patience, c.ID()+" to see three", func() bool { return c.State().Total == 3 })
	}
	began := clusters[0].State().Deadline
	for n, c := range clusters {
		await(t, patience, c.ID()+" to have renewed its record for a TTL", func() bool {
			return c.State().Deadline.Sub(began) > 20*time.Second
		})
		require.Equal(t, n, c.State().Index)
		require.Equal(t, 3, c.State().Total)
	}
	require.Zero(t, lost.Load(), "an instance was fenced")
}
