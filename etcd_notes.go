//go:build !wasm

package libcluster

import (
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcdNotes is what all attempts of one stay to join have in common.
type etcdNotes struct {
	mu     sync.Mutex         // guards what follows
	leases []clientv3.LeaseID // all that were granted, the latest last
	wrote  int64              // the revision of the latest write that succeeded
	login  *etcdLogin
	tls    *etcdTLS

	exposed sync.Once // it has been logged that others can read the password

	shrunk     int       // the pages that are read are smaller by so many powers of two
	large      error     // why the members' records were not taken in
	largeSince time.Time // when they were last found too large
}

func notesOf(stay *Stay, previous *etcdSession) *etcdNotes {
	if stay == nil {
		stay = &Stay{}
	}
	if stay.Notes == nil && previous != nil {
		stay.Notes = previous.notes
	}
	if stay.Notes == nil {
		stay.Notes = &etcdNotes{}
	}
	return stay.Notes.(*etcdNotes)
}

func (n *etcdNotes) granted(id clientv3.LeaseID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leases = append(n.leases, id)
}

// others returns the latest of the leases but one.
func (n *etcdNotes) others(but clientv3.LeaseID) []clientv3.LeaseID {
	const enough = 16 // a transaction has room for 128 operations
	n.mu.Lock()
	defer n.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(n.leases), func(id clientv3.LeaseID) bool { return id == but })
	return others[max(0, len(others)-enough):]
}

func (n *etcdNotes) written(revision int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrote = max(n.wrote, revision)
}

func (n *etcdNotes) isOurs(id clientv3.LeaseID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.leases, id)
}

// isOlder reports whether a key was last written before we wrote it, which is
// so only in a store that was restored. Who takes a key over writes it later.
func (n *etcdNotes) isOlder(kv *mvccpb.KeyValue) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return kv.ModRevision < n.wrote
}
