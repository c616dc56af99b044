package onetcd_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
)

// holds waits until an instance holds so many partitions.
func (i *instance) holds(partitions int) libcluster.State {
	i.t.Helper()
	require.Eventually(i.t, func() bool {
		return len(slices.Collect(i.State().Held())) == partitions
	}, patience, time.Millisecond)
	return i.State()
}

// A fence of one partition goes with that partition, or when its instance releases another one,
// and never later than the partition is granted anew.
func TestAWriteForAPartitionThatHasMovedIsRefusedByEtcd(t *testing.T) {
	t.Parallel()
	cluster, client := key(t), etcdClient(t)
	write := func(fence []clientv3.Cmp) bool {
		answer, err := client.Txn(t.Context()).If(fence...).Then(clientv3.OpPut(cluster, "")).Commit()
		require.NoError(t, err)
		return answer.Succeeded
	}
	fenced := func(i *instance, number int) (libcluster.Partition, []clientv3.Cmp) {
		p, held := i.State().Partition(number)
		require.True(t, held)
		fence, err := i.EtcdPartitionFence(p)
		require.NoError(t, err)
		return p, fence
	}
	// Etcd knows of an acknowledgement a moment before the instance does whose it is.
	writes := func(i *instance, number int) (p libcluster.Partition, fence []clientv3.Cmp) {
		require.Eventually(t, func() bool {
			p, fence = fenced(i, number)
			return write(fence)
		}, patience, time.Millisecond)
		return p, fence
	}
	cfg := libcluster.Config{Key: cluster, ID: "a", Mode: libcluster.ModeCooperative, Partitions: 4}
	a := start(t, cfg)
	a.holds(4)
	stays, fenceOfStays := fenced(a, 0)
	moves, fenceOfMoves := fenced(a, 3)
	require.True(t, write(fenceOfStays))
	require.True(t, write(fenceOfMoves))

	cfg.ID = "b"
	b := start(t, cfg)
	b.holds(2)
	a.holds(2)
	require.False(t, write(fenceOfMoves), "a goes on as if nothing had happened")
	require.False(t, write(fenceOfStays), "it was made before a released another partition")
	_, err := a.EtcdPartitionFence(moves)
	require.ErrorIs(t, err, libcluster.ErrRebalanced)
	again, fenceOfStays := writes(a, 0)
	require.Equal(t, stays, again, "the token is the same")
	its, fenceOfIts := fenced(b, 3)
	require.Greater(t, its.Token, moves.Token)
	require.True(t, write(fenceOfIts))

	cfg.ID = "c"
	c := start(t, cfg) // of which a, or b, gives one, and the other nothing
	c.holds(1)
	require.True(t, write(fenceOfStays) != write(fenceOfIts), "only that of the instance that gave one is gone")
	for number := range 4 {
		if p, held := b.State().Partition(number); held {
			_, fenceOfIts = writes(b, p.Number)
		}
	}
	b.Leaves()
	require.False(t, write(fenceOfIts))
	_, err = b.EtcdPartitionFence(its)
	require.ErrorIs(t, err, libcluster.ErrLeft)
	_, err = start(t, libcluster.Config{Key: cluster + "2", ID: "a"}).EtcdPartitionFence(its)
	require.ErrorContains(t, err, "mode direct")
}
