package libcluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/libcluster/libcluster/kv"
)

// ClusterName is what the instances of a cluster have in common.
type ClusterName struct {
	// Key, Partition and Env are those of [Config]. Partition may be empty.
	Key, Partition, Env string
	// Mode is the cluster's.
	Mode Mode
}

// Clusters returns the clusters in a registry that have members, by key, partition and
// environment, and if key is not empty only those with that key. [EtcdConfig] can tell, and so
// can [OnStore] if the store is a [kv.Lister], and registries of other packages if they
// have the method Clusters of EtcdConfig. The error of all others wraps [kv.ErrNoList].
//
// In a store the members of one cluster after another are read, until one is found whose record is
// under a lease. Where leases end by each reader's clock, as in a folder, those of instances that
// have crashed may be among them until somebody has watched the cluster for a while.
func Clusters(ctx context.Context, registry Registry, key string) ([]ClusterName, error) {
	lister, can := registry.(interface {
		Clusters(ctx context.Context, key string) ([]ClusterName, error)
	})
	if !can {
		return nil, cannotList(kv.ErrNoList)
	}
	return lister.Clusters(ctx, key)
}

func cannotList(err error) error { return fmt.Errorf("libcluster: cannot list the clusters: %w", err) }

// checkClustersKey returns why there are no clusters with a key. Any key will do if it is empty.
func checkClustersKey(key string) error {
	if key == "" {
		return nil
	}
	if err := checkName("Key", key); err != nil {
		return &ConfigError{"Key", err}
	}
	return nil
}

// Clusters is what the function Clusters calls.
func (g storeRegistry) Clusters(ctx context.Context, key string) ([]ClusterName, error) {
	if err := checkClustersKey(key); err != nil {
		return nil, err
	}
	lister, can := g.store.(kv.Lister)
	if !can {
		return nil, cannotList(kv.ErrNoList)
	}
	spaces, err := lister.Spaces(ctx)
	if err != nil {
		return nil, cannotList(err)
	}
	var found []ClusterName
	for _, space := range spaces {
		name, may := clusterNamed(space)
		if !may || key != "" && name.Key != key {
			continue
		}
		member, err := anyMember(ctx, g.store, space)
		if err != nil {
			return nil, cannotList(fmt.Errorf("%q: %w", space, err))
		}
		if member != nil {
			name.Mode = member.plans.mode
			found = append(found, name)
		}
	}
	slices.SortFunc(found, ClusterName.compare)
	return found, nil
}

// anyMember returns a member of a space whose record is under a lease, or nil.
func anyMember(ctx context.Context, store kv.Store, name string) (member *Member, err error) {
	space, err := store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer space.Close() // nothing was written
	enough := errors.New("enough")
	_, err = space.List(ctx, "", func(r kv.Record) error {
		if r.Owner == 0 {
			return nil // nobody is behind it
		}
		if m, err := ParseMember(r.Key, r.Value); err == nil {
			member = &m
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return member, err
}

func (c ClusterName) compare(d ClusterName) int {
	return cmp.Or(cmp.Compare(c.Key, d.Key), cmp.Compare(c.Partition, d.Partition), cmp.Compare(c.Env, d.Env))
}

// clusterNamed returns the cluster that is called KEY/ENV or KEY/PARTITION/ENV, if one can be.
func clusterNamed(s string) (name ClusterName, can bool) {
	parts := strings.Split(s, "/")
	switch len(parts) {
	case 2:
		name = ClusterName{Key: parts[0], Env: parts[1]}
	case 3:
		name = ClusterName{Key: parts[0], Partition: parts[1], Env: parts[2]}
	default:
		return name, false
	}
	return name, !slices.ContainsFunc(parts, func(part string) bool { return checkName("", part) != nil })
}
