//go:build !wasm

package libcluster

import (
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster/internal/etcd"
	"github.com/libcluster/libcluster/kv"
)

// EtcdFence returns comparisons for a transaction of the application's own on the
// same etcd: it then has an effect only while the plan is in force that gave this
// instance the assignment s, the state that the application goes by. So a write that was
// held up for however long is refused by etcd itself. The cluster must be on etcd in
// mode [ModeExclusive], and s this instance's present state; otherwise the error says what
// is missing, and is [ErrRebalanced] if there is a newer one.
//
// It is refused too after a plan that leaves this instance where it is: read the state
// again, and repeat. As with [Cluster.StoreFence] there is none while this instance stops for
// another plan, or leaves.
func (c *Cluster) EtcdFence(s State) ([]clientv3.Cmp, error) {
	session, plan, err := c.fencedBy(s)
	if err != nil {
		return nil, err
	}
	if session != nil && c.cfg.Mode == ModeExclusive {
		space, ours := session.own()
		if space, ok := space.(*etcd.Space); ok {
			return space.Compare(ours, kv.AtVersion(planKey, plan.revision)), nil
		}
	}
	return nil, fmt.Errorf("libcluster: no fence: the cluster must be on etcd and in mode exclusive, and is in mode %v", c.cfg.Mode)
}

// EtcdPartitionFence is [Cluster.PartitionFence] for a transaction on the etcd that the
// cluster is on, as [Cluster.EtcdFence] is for a state.
func (c *Cluster) EtcdPartitionFence(p Partition) ([]clientv3.Cmp, error) {
	session, f, err := c.fencedByPartition(p)
	if err != nil {
		return nil, err
	}
	at, ours := session.own()
	space, ok := at.(*etcd.Space)
	if !ok {
		return nil, errors.New("libcluster: no fence for a partition: the cluster must be on etcd; see PartitionFence")
	}
	return space.Compare(ours, kv.AtVersion(f.Key, f.Mark.Revision)), nil
}
