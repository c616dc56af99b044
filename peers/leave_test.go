//go:build faults

package peers_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/peers"
)

// etcd would give it to the peer that it has been connected to for longest, which is the primary's
// here. That one gives it away at once, so etcd would wait for it in vain until it gives up.
func TestLeaderThatIsClosedGivesTheLeadershipToNoPrimary(t *testing.T) {
	t.Parallel()
	list := files(t, 3, map[string]any{"election": "1s"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	all, clusters := make([]*peers.Peers, 3), make([]*libcluster.Cluster, 3)
	begin := func(n int) {
		all[n] = load(t, list[n])
		clusters[n] = newCluster(t, all[n], nil)
		go join(t, clusters[n])
	}
	whole := func() {
		for n, c := range clusters {
			eventually(t, "joined", func() bool { return c.State().Total == len(all) && c.State().Index == n })
		}
	}
	for n := range all {
		begin(n)
	}
	whole()
	require.NoError(t, clusters[1].Leave(ctx))
	require.NoError(t, all[1].Close())
	begin(1)
	whole()
	last, err := statusAt(list[2])
	require.NoError(t, err)
	eventually(t, "the last one leads", func() bool {
		for _, file := range list {
			if client, _, err := clientTo(file); err == nil {
				attempt, cancel := context.WithTimeout(ctx, patience/10)
				_, _ = client.MoveLeader(attempt, last.Header.MemberId) // one of them leads
				cancel()
				client.Close()
			}
		}
		return leadsAt(list[2])
	})
	last, err = statusAt(list[2])
	require.NoError(t, err)
	eventually(t, "it hears who may take the leadership", func() bool { return peers.Hears(all[2], all[1]) })

	require.NoError(t, clusters[2].Leave(ctx))
	require.NoError(t, all[2].Close())
	eventually(t, "another one leads", func() bool { return leadsAt(list[1]) })
	now, err := statusAt(list[1])
	require.NoError(t, err)
	for _, c := range clusters[:2] { // while they are a majority
		require.NoError(t, c.Leave(ctx))
	}
	require.Equal(t, last.RaftTerm+1, now.RaftTerm, "the leadership has moved once")
}
