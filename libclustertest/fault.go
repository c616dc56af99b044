package libclustertest

import (
	"context"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/kv"
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
	owner := r.record(cluster, id).Owner
	if owner != 0 {
		_ = r.space(cluster).End(context.Background(), owner)
	}
	return owner != 0
}

// Steal puts the instance's record under another lease, as another process with
// the same ID would that joins and then dies: the session is told
// [libcluster.ErrInstanceTaken], and nobody renews the new lease. It reports
// whether there was a record.
func (r *Registry) Steal(cluster, id string) bool {
	held := r.record(cluster, id)
	if held.Version == 0 {
		return false
	}
	ttl := libcluster.DefaultTTL
	if held.Owner != 0 {
		ttl, _ = r.space(cluster).Renew(context.Background(), held.Owner) // which tells
	}
	r.mu.Lock()
	r.stolen++
	owner := r.stolen // instances draw theirs from so many that none is as small
	r.mu.Unlock()
	_, _ = r.space(cluster).Begin(context.Background(), owner, ttl)
	r.write(cluster, kv.Tx{Put: []kv.Record{{Key: id, Value: held.Value, Owner: owner}}})
	return true
}

// write changes a cluster as another program does.
func (r *Registry) write(cluster string, tx kv.Tx) {
	_, _ = r.space(cluster).Commit(context.Background(), tx) // what is refused is not there
}

// Put writes a record as another program would: whatever bytes, under whatever ID that can be
// printed, and without a lease, so that it stays until it is deleted. An instance whose
// record that overwrites is told [libcluster.ErrRecordGone].
func (r *Registry) Put(cluster, id string, value []byte) {
	r.write(cluster, kv.Tx{Put: []kv.Record{{Key: id, Value: value}}})
}

// Delete deletes a record by hand. The session is told
// [libcluster.ErrRecordGone]. It reports whether there was a record.
func (r *Registry) Delete(cluster, id string) bool {
	there := r.record(cluster, id).Version != 0
	r.write(cluster, kv.Tx{Delete: []string{id}})
	return there
}

// PutPlan writes the plan as another program would, or, if it is empty, deletes it.
func (r *Registry) PutPlan(cluster, text string) {
	if text == "" {
		r.write(cluster, kv.Tx{Delete: []string{planKey}})
		return
	}
	r.write(cluster, kv.Tx{Put: []kv.Record{{Key: planKey, Value: []byte(text)}}})
}

// Depose takes the coordination from the instance that has it, which does not learn of it
// otherwise than the others do.
func (r *Registry) Depose(cluster string) {
	r.write(cluster, kv.Tx{Delete: []string{coordinatorKey}})
}

// Compact forgets the history of every cluster: the next change that each
// session gets is the whole list, with Reset.
func (r *Registry) Compact() {
	r.epoch.Add(1)
	for _, name := range r.clusters() {
		r.store.Forget(name)
	}
}
