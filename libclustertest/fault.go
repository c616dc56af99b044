package libclustertest

import (
	"time"

	"github.com/libcluster/libcluster"
)

// GrantTTL has every later Join granted the TTL d, whatever it asks for; 0 means
// what it asks for.
func (r *Registry) GrantTTL(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.granted = d
}

// Expire ends the lease of the instance now. The record goes, the others see it
// go, and the session is told [libcluster.ErrRecordGone]. It reports whether
// there was such a lease.
func (r *Registry) Expire(cluster, id string) bool {
	r.lock()
	defer r.unlock()
	l := r.store.cluster(cluster).records[id].lease
	if l != nil {
		r.store.revoke(l, "the lease has expired")
	}
	return l != nil
}

// Steal puts the instance's record under another lease, as another process with
// the same ID would that joins and then dies: the session is told
// [libcluster.ErrInstanceTaken], and nobody renews the new lease. It reports
// whether there was a record.
func (r *Registry) Steal(cluster, id string) bool {
	r.lock()
	defer r.unlock()
	c := r.store.cluster(cluster)
	held, ok := c.records[id]
	if !ok {
		return false
	}
	ttl := libcluster.DefaultTTL
	if held.lease != nil {
		ttl = held.lease.ttl
	}
	r.store.put(c, id, held.value, r.store.grant(ttl))
	return true
}

// Put writes a record as a stranger would: whatever bytes, under whatever ID, and
// without a lease, so that it stays until it is deleted. An instance whose
// record that overwrites is told [libcluster.ErrRecordGone].
func (r *Registry) Put(cluster, id string, value []byte) {
	r.lock()
	defer r.unlock()
	r.store.put(r.store.cluster(cluster), id, string(value), nil)
}

// Delete deletes a record by hand. The session is told
// [libcluster.ErrRecordGone]. It reports whether there was a record.
func (r *Registry) Delete(cluster, id string) bool {
	r.lock()
	defer r.unlock()
	return r.store.remove(r.store.cluster(cluster), id, "it was deleted")
}

// Compact forgets the history of every cluster: the next change that each
// session gets is the whole list, with Reset.
func (r *Registry) Compact() {
	r.lock()
	defer r.unlock()
	for _, name := range sortedKeys(r.store.clusters) {
		r.store.clusters[name].begin()
	}
}
