package libcluster_test

import (
	"context"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
)

// What the coordinator's key names is no instance if it could not be one's ID.
func TestOnlyWhatCanBeAnIDIsWaitedFor(t *testing.T) {
	cluster, client := key(t), etcdClient(t)
	prefix := "/" + cluster + "/production/"
	lease, err := client.Grant(t.Context(), 600)
	require.NoError(t, err)
	_, err = client.Put(t.Context(), prefix+"/p/coordinator",
		"planned\tnobody\n1\t\x1b[2J\n2\tslow\n3\t\n4\ta/b\n5\tc\r\n", clientv3.WithLease(lease.ID))
	require.NoError(t, err)
	i := prepare(t, libcluster.Config{Key: cluster, Mode: libcluster.Planned})
	joining, end := context.WithCancel(t.Context())
	defer end()
	joined := make(chan error)
	go func() { joined <- i.Join(joining) }()
	require.Eventually(t, func() bool { return len(i.Waiting()) > 0 }, patience, time.Millisecond)
	require.Equal(t, []libcluster.Holdup{{ID: "slow", Since: time.UnixMilli(2)}}, i.Waiting())
	end()
	err = <-joined
	require.ErrorContains(t, err, "the others wait for slow to stop")
	for _, r := range err.Error() {
		require.True(t, unicode.IsPrint(r), "%q in %q", r, err)
	}
}
