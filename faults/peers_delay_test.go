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
	"github.com/libcluster/libcluster/internal/testhost"
	"github.com/libcluster/libcluster/peers"
)

// remote is a peer of which the others know a line. Two peers have a line each in which what one of them
// sends to the other may be, since each opens connections to the other.
type remote struct {
	*peers.Peers
	line   *line
	listen string // where its server is without the line
}

// url is where its server is without the line.
func (r remote) url() string { return "http://" + r.listen }

// startRemote returns three peers that reach one another by lines on which each way takes so long.
func startRemote(t *testing.T, way, election time.Duration) (all []remote) {
	var list []peers.Peer
	for n := range 3 {
		r := remote{listen: testhost.FreeAddress(t)}
		r.line = startLine(t, r.listen, nil)
		r.line.up.delay, r.line.down.delay = way, way
		all = append(all, r)
		list = append(list, peers.Peer{ID: fmt.Sprint("peer-", n), Address: r.line.address()})
	}
	for n, self := range list {
		p, err := peers.New(peers.Config{
			ID: self.ID, Listen: all[n].listen, Peers: list, DataDir: filepath.Join(t.TempDir(), self.ID), Election: election,
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, p.Close()) })
		all[n].Peers = p
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
	for _, p := range startRemote(t, 200*time.Millisecond, 2*time.Second) {
		c, err := libcluster.New(libcluster.Config{
			Key: "far", ID: p.Self().ID, Registry: p.Peers, Logger: zap.NewNop(),
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
