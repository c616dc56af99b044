package libclustertest

import "github.com/libcluster/libcluster"

// Members returns the members of the cluster as the registry has them now,
// ordered by ID. What does not parse is no member.
func (r *Registry) Members(cluster string) []libcluster.Member {
	r.lock()
	defer r.unlock()
	c := r.store.cluster(cluster)
	members := make([]libcluster.Member, 0, len(c.records))
	for _, id := range sortedKeys(c.records) {
		if m, err := libcluster.ParseMember(id, []byte(c.records[id].value)); err == nil {
			members = append(members, m)
		}
	}
	return members
}

// Holds reports whether the instance's record is there under a lease that is
// alive now.
func (r *Registry) Holds(cluster, id string) bool {
	r.lock()
	defer r.unlock()
	return r.store.cluster(cluster).records[id].lease != nil
}

// Revision returns the number of puts and deletions so far, in all clusters. The
// generation of a change is the revision of the latest event in it.
func (r *Registry) Revision() int64 {
	r.lock()
	defer r.unlock()
	return r.store.revision
}

// Counts is what instances have cost so far.
type Counts struct {
	// Writes are records put by Join and Update, and deleted by Leave, and changes of
	// a plan and all that belongs to it. What expires, and what the methods of
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
	r.lock()
	defer r.unlock()
	return r.counts
}
