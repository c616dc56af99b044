package libclustertest

import "github.com/libcluster/libcluster/kv/kvtest"

// Snapshot is the state of a registry at one moment. The zero Snapshot is that
// of an empty one.
type Snapshot struct {
	clusters map[string]kvtest.Snapshot
}

// Snapshot returns the state as of now, for [Registry.Restore].
func (r *Registry) Snapshot() Snapshot {
	snapshot := Snapshot{make(map[string]kvtest.Snapshot)}
	for _, name := range r.clusters() {
		snapshot.clusters[name] = r.store.Snapshot(name)
	}
	return snapshot
}

// Restore sets the store back to a snapshot of its own, as restoring a backup
// does: the revision runs backwards, leases that are newer than the snapshot are
// gone, and those in it begin their TTL anew even if they had expired since.
// Restoring the zero Snapshot loses everything.
//
// A session goes on, and next gets the whole list, if its lease is in the
// snapshot and it was told of nothing later. Any other finds out when it asks, as long as
// the store has not come as far again: [libcluster.ErrRegistryReset].
func (r *Registry) Restore(snapshot Snapshot) {
	r.epoch.Add(1)
	for _, name := range r.clusters() {
		r.store.Restore(name, snapshot.clusters[name])
	}
}
