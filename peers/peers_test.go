package peers_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

func TestThreePeersHaveOnePrimary(t *testing.T) {
	var clusters []*libcluster.Cluster
	began := time.Now()
	for _, file := range files(t, 3, nil) {
		clusters = append(clusters, newCluster(t, load(t, file), nil))
	}
	var joining sync.WaitGroup
	for _, c := range clusters {
		joining.Go(func() { join(t, c) })
	}
	joining.Wait()
	t.Log("formed in", time.Since(began))
	for _, c := range clusters {
		eventually(t, "all know the three", func() bool { return len(c.Members()) == 3 })
		require.Equal(t, "a", member(0, c))
		require.Equal(t, "8000", c.Members()[0].Metadata["server_port"])
	}
	require.Zero(t, clusters[0].State().Index)
}
