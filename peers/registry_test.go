//go:build faults

package peers_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/peers"
	"github.com/libcluster/libcluster/registrytest"
)

// spread is a registry whose instances are at one peer after the other.
type spread struct {
	peers []*peers.Peers
	next  *atomic.Int64
}

func (s spread) Capabilities() libcluster.Capabilities { return s.peers[0].Capabilities() }

func (s spread) Enter(r libcluster.Registration) (libcluster.Membership, error) {
	return s.peers[int(s.next.Add(1))%len(s.peers)].Enter(r)
}

func TestPeersKeepThePromisesOfARegistry(t *testing.T) {
	s := spread{next: new(atomic.Int64)}
	// The suite joins once, and not again and again as an instance does. So no leader may be missed
	// while it keeps all processors and the disk busy, and it must not begin before the leadership has
	// come to stay: while it moves writes are refused.
	list := files(t, 3, map[string]any{"election": "1s"})
	var warm []*libcluster.Cluster
	for _, file := range list {
		p := load(t, file)
		s.peers = append(s.peers, p)
		c := newCluster(t, p, func(c *libcluster.Config) { c.Key = "warm" })
		go join(t, c)
		warm = append(warm, c)
	}
	for n, c := range warm {
		eventually(t, "joined", func() bool { return c.State().Total == len(warm) && c.State().Index == n })
	}
	eventually(t, "the leader is not the primary", func() bool { return leadsAt(list[1]) || leadsAt(list[2]) })
	stranger, _, err := clientTo(list[0])
	require.NoError(t, err)
	t.Cleanup(func() { stranger.Close() })
	registrytest.Run(t, registrytest.Harness{
		Open: func(*testing.T) libcluster.Registry { return s },
		Put: func(ctx context.Context, _ libcluster.Registry, cluster, id string, record []byte) error {
			_, err := stranger.Put(ctx, "/"+cluster+"/"+id, string(record))
			return err
		},
		Delete: func(ctx context.Context, _ libcluster.Registry, cluster, id string) error {
			_, err := stranger.Delete(ctx, "/"+cluster+"/"+id)
			return err
		},
		TTL: 2 * time.Second, Patience: patience,
	})
	require.True(t, strings.HasPrefix(s.peers[0].String(), "peers a, b, c"))
}
