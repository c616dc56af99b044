package libclustertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/libcluster/libcluster"
)

// Snapshot is the state of a registry at one moment. The zero Snapshot is that
// of an empty one.
type Snapshot struct {
	revision int64
	clusters map[string]clusterSnapshot
}

type clusterSnapshot struct {
	revision     int64
	records      map[string]recordSnapshot
	text         string // the plan
	planRevision int64
}

type recordSnapshot struct {
	value string
	since int64
	lease int64 // 0: none
	ttl   time.Duration
}

// Snapshot returns the state as of now, for [Registry.Restore].
func (r *Registry) Snapshot() Snapshot {
	r.lock()
	defer r.unlock()
	snapshot := Snapshot{r.store.revision, make(map[string]clusterSnapshot)}
	for name, c := range r.store.clusters {
		records := make(map[string]recordSnapshot)
		for id, held := range c.records {
			kept := recordSnapshot{value: held.value, since: held.since}
			if held.lease != nil {
				kept.lease, kept.ttl = held.lease.id, held.lease.ttl
			}
			records[id] = kept
		}
		snapshot.clusters[name] = clusterSnapshot{c.revision, records, c.text, c.planning.revision}
	}
	return snapshot
}

// Restore sets the store back to a snapshot of its own, as restoring a backup
// does: the revision runs backwards, leases that are newer than the snapshot are
// gone, and those in it begin their TTL anew even if they had expired since.
// Restoring the zero Snapshot loses everything.
//
// A session goes on, and next gets the whole list, if its lease is in the
// snapshot and it was told of nothing later. Any other is told
// [libcluster.ErrRegistryReset]: what it knows has never been.
func (r *Registry) Restore(snapshot Snapshot) {
	r.lock()
	defer r.unlock()
	kept := make(map[int64]*lease)
	for _, l := range slices.Clone(r.store.leases) {
		was := snapshot.clusters[l.cluster.name].records[l.record]
		if was.lease == l.id && l.seen <= snapshot.revision {
			kept[l.id] = l
			continue
		}
		r.store.lose(l, reset(snapshot.revision))
	}
	r.store.revision = snapshot.revision
	for _, name := range sortedKeys(r.store.clusters) {
		c, was := r.store.clusters[name], snapshot.clusters[name]
		c.revision = was.revision
		c.records = make(map[string]record)
		// Who coordinates has to claim it again, and who has stopped to say so.
		c.planning = planning{text: was.text, revision: was.planRevision}
		for _, id := range sortedKeys(was.records) {
			c.records[id] = r.store.revive(c, id, was.records[id], kept)
		}
		c.begin()
	}
}

func reset(revision int64) error {
	return fmt.Errorf("%w: it is at revision %d", libcluster.ErrRegistryReset, revision)
}

// revive returns a record of a snapshot, under its lease with a whole TTL: that
// of the session that goes on, or one that nobody renews.
func (s *store) revive(c *cluster, id string, was recordSnapshot, kept map[int64]*lease) record {
	if was.lease == 0 {
		return record{value: was.value, since: was.since}
	}
	l := kept[was.lease]
	if l != nil {
		s.renew(l)
	} else {
		l = s.lend(was.lease, was.ttl)
		l.cluster, l.record = c, id
	}
	return record{was.value, l, was.since}
}
