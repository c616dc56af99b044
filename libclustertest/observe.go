package libclustertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/kv"
)

// Where a cluster's plan and its coordinator are.
const (
	planKey        = "/p/plan"
	coordinatorKey = "/p/coordinator"
)

// space returns a cluster's space as another program would have it.
func (r *Registry) space(cluster string) kv.Space {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spaces[cluster] == nil {
		space, err := r.store.Open(context.Background(), cluster)
		if err != nil {
			panic(fmt.Sprintf("libclustertest: cluster %q: %v", cluster, err))
		}
		r.spaces[cluster] = space
	}
	return r.spaces[cluster]
}

// clusters returns the names of all that were used.
func (r *Registry) clusters() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.spaces))
}

// record returns what is there of a key.
func (r *Registry) record(cluster, key string) kv.Record {
	found, _, err := r.space(cluster).Get(context.Background(), key)
	if err != nil {
		return kv.Record{} // what cannot be written is not there
	}
	return found
}

// each calls f for the records of a cluster, by key.
func (r *Registry) each(cluster string, f func(kv.Record)) {
	_, _ = r.space(cluster).List(context.Background(), "", func(found kv.Record) error {
		f(found)
		return nil
	})
}

// Members returns the members of the cluster as the registry has them now,
// ordered by ID. What does not parse is no member.
func (r *Registry) Members(cluster string) []libcluster.Member {
	members := []libcluster.Member{}
	r.each(cluster, func(found kv.Record) {
		if strings.Contains(found.Key, "/") {
			return // of a plan
		}
		if m, err := libcluster.ParseMember(found.Key, found.Value); err == nil {
			members = append(members, m)
		}
	})
	return members
}

// Holds reports whether the instance's record is there under a lease that is
// alive now.
func (r *Registry) Holds(cluster, id string) bool { return r.record(cluster, id).Owner != 0 }

// Plan returns the plan of a cluster as text, which is empty if there is none.
func (r *Registry) Plan(cluster string) string { return string(r.record(cluster, planKey).Value) }

// Coordinator returns the ID of the instance that coordinates the cluster, which is
// empty if none does.
func (r *Registry) Coordinator(cluster string) (id string) {
	coordinator := r.record(cluster, coordinatorKey).Owner
	r.each(cluster, func(found kv.Record) {
		if coordinator != 0 && found.Owner == coordinator && !strings.Contains(found.Key, "/") {
			id = found.Key
		}
	})
	return id
}

// Stands reports whether a transaction that depends on a fence would have an effect now: see
// [libcluster.Cluster.PartitionFence] and [libcluster.Cluster.StoreFence].
func (r *Registry) Stands(f kv.Fence) bool {
	if f.Key == "" {
		return false
	}
	depends := []kv.Cond{kv.AtVersion(f.Key, f.Mark.Revision)}
	if f.Member != "" {
		depends = append(depends, kv.OwnedBy(f.Member, f.Owner))
	}
	now, err := r.space(f.Space).Commit(context.Background(), kv.Tx{If: depends})
	return err == nil && now.Done && now.Mark.Store == f.Mark.Store
}

// Revision returns the revision of a cluster's last commit, which is the generation of the
// change that tells of it.
func (r *Registry) Revision(cluster string) int64 {
	result, _ := r.space(cluster).Commit(context.Background(), kv.Tx{})
	return result.Mark.Revision
}

// Counts is what instances have cost so far.
type Counts struct {
	// Writes are records written and deleted: by Join, Update and Leave, and of a plan
	// and all that belongs to it. What expires, and what the methods of
	// [Registry] do to the store, does not count.
	Writes int
	// Reads are lists of all members: one for each Join, one for each time
	// that a session had to begin anew, and one for each survey and each look.
	Reads int
	// Renewals are calls of Renew that succeeded.
	Renewals int
	// Deliveries are events returned by Next or Survey, not counting lists. An event
	// that ten sessions learn of counts ten times.
	Deliveries int
}

// Counts returns what instances have cost so far.
func (r *Registry) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

func (r *Registry) count(add func(*Counts)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.counts)
}
