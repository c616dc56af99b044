package libclustertest

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libcluster/libcluster"
)

// maxHistory is how many events a cluster remembers at least.
const maxHistory = 10_000

// store is what the registry holds: clusters of records, some of them under a
// lease. It knows nothing of locks, sessions and faults.
type store struct {
	revision  int64 // grows by one with each put and each deletion
	clusters  map[string]*cluster
	leases    leaseHeap
	lastLease int64 // numbers are never used again, not even after a Restore
}

// cluster is the records of one cluster and what has become of them.
type cluster struct {
	name     string
	revision int64 // of its last change
	records  map[string]record
	history  []event
	dropped  int64         // the revision up to which history is gone
	epoch    int           // grows when every session has to begin anew
	changed  chan struct{} // closed on the next change; nil while nobody waits

	planning // in a mode with a plan
}

type record struct {
	value string
	lease *lease // nil: it stays until somebody deletes it
	since int64  // the revision at which it appeared
}

type event struct {
	revision  int64
	id, value string
	gone      bool
	orphan    bool // it is under no lease
}

// lease holds one record. Once lost it is over, and its session is told why. That
// of a passive session holds none and does not expire.
type lease struct {
	stay    *libcluster.Stay // whose it is; nil: a stranger's or a parked one
	id      int64
	ttl     time.Duration
	expires time.Time
	place   int // in the heap
	cluster *cluster
	record  string   // the ID of the record
	left    bool     // it holds no record, but only a note
	before  []string // the incarnations of the same stay before this one
	lost    error
	seen    int64 // the last revision that its session has been told of
}

// maxBefore is how many incarnations of its stay a lease remembers.
const maxBefore = 16

// follow notes that another lease, and those before that, were of the same stay.
func (l *lease) follow(o *lease) {
	for _, incarnation := range append([]string{o.incarnation()}, o.before...) {
		if len(l.before) < maxBefore && !slices.Contains(l.before, incarnation) {
			l.before = append(l.before, incarnation)
		}
	}
}

func (s *store) cluster(name string) *cluster {
	c := s.clusters[name]
	if c == nil {
		c = &cluster{name: name, records: make(map[string]record)}
		s.clusters[name] = c
	}
	return c
}

func (s *store) grant(ttl time.Duration) *lease {
	s.lastLease++
	return s.lend(s.lastLease, ttl)
}

func (s *store) lend(id int64, ttl time.Duration) *lease {
	l := &lease{id: id, ttl: ttl, expires: time.Now().Add(ttl)}
	heap.Push(&s.leases, l)
	return l
}

// renew gives the lease its whole TTL again.
func (s *store) renew(l *lease) {
	l.expires = time.Now().Add(l.ttl)
	heap.Fix(&s.leases, l.place)
}

// lose ends a lease. Its record is the caller's to replace or to delete.
func (s *store) lose(l *lease, why error) {
	if l.lost == nil {
		l.lost = why
		heap.Remove(&s.leases, l.place)
		s.forsake(l)
	}
}

// foreign returns an error if the record is under a lease other than that of the
// previous incarnation, or of an attempt to rejoin since, and so somebody else's.
// It does not if the store has gone back meanwhile: leases then mean nothing.
func (s *store) foreign(c *cluster, id string, previous *lease) error {
	held := c.records[id].lease
	if held == nil || held == previous || held.stay == previous.stay || errors.Is(previous.lost, libcluster.ErrRegistryReset) {
		return nil
	}
	return taken(held, previous)
}

func taken(by, from *lease) error {
	return fmt.Errorf("%w: it is held under lease %d, not %d", libcluster.ErrInstanceTaken, by.id, from.id)
}

// put writes a record. Whoever held the record under
// another lease has lost it.
func (s *store) put(c *cluster, id, value string, l *lease) {
	if old := c.records[id].lease; old != nil && old != l {
		switch {
		case l == nil:
			s.lose(old, fmt.Errorf("%w: it was overwritten without a lease", libcluster.ErrRecordGone))
		case l.stay != nil && l.stay == old.stay:
			s.lose(old, fmt.Errorf("%w: an earlier attempt to join has arrived late and replaced it", libcluster.ErrRecordGone))
		default:
			s.lose(old, taken(l, old))
		}
	}
	if l != nil {
		l.cluster, l.record = c, id
	}
	since := c.records[id].since
	if since == 0 {
		since = s.revision + 1
	}
	c.records[id] = record{value, l, since}
	s.happened(c, event{id: id, value: value, orphan: l == nil})
}

// remove deletes a record, if there is one.
func (s *store) remove(c *cluster, id, why string) bool {
	old, ok := c.records[id]
	if !ok {
		return false
	}
	if old.lease != nil {
		s.lose(old.lease, fmt.Errorf("%w: %s", libcluster.ErrRecordGone, why))
	}
	delete(c.records, id)
	s.happened(c, event{id: id, gone: true})
	return true
}

// revoke ends a lease, and its record goes with it.
func (s *store) revoke(l *lease, why string) {
	switch {
	case l.lost != nil:
	case l.left:
		s.lose(l, errClosed)
	default:
		s.remove(l.cluster, l.record, why)
	}
}

func (s *store) expire(now time.Time) {
	for len(s.leases) > 0 && !s.leases[0].expires.After(now) {
		s.revoke(s.leases[0], "the lease has expired")
	}
}

func (s *store) nextExpiry() (time.Time, bool) {
	if len(s.leases) == 0 {
		return time.Time{}, false
	}
	return s.leases[0].expires, true
}

func (s *store) happened(c *cluster, e event) {
	s.revision++
	e.revision, c.revision = s.revision, s.revision
	if len(c.history) >= 2*maxHistory {
		rest := c.history[len(c.history)-maxHistory:]
		c.dropped = rest[0].revision - 1
		c.history = slices.Clone(rest)
	}
	c.history = append(c.history, e)
	c.wake()
}

// wake wakes everybody who waits for a change of the cluster.
func (c *cluster) wake() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// change returns the channel that the next change closes. It is made by whoever
// waits for it, so that it belongs to that one's bubble.
func (c *cluster) change() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// begin forgets the history, so that every session begins anew.
func (c *cluster) begin() {
	c.history, c.dropped = nil, c.revision
	c.epoch++
	c.wake()
}

// since returns the events from a revision on.
func (c *cluster) since(revision int64) []event {
	i, _ := slices.BinarySearchFunc(c.history, revision, func(e event, r int64) int {
		return cmp.Compare(e.revision, r)
	})
	return c.history[i:]
}

// sortedKeys has maps read in one order: results must not depend on another.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// leaseHeap has the lease that expires next on top. Each lease knows its place.
type leaseHeap []*lease

func (h leaseHeap) Len() int { return len(h) }

func (h leaseHeap) Less(i, j int) bool {
	if h[i].expires.Equal(h[j].expires) {
		return h[i].id < h[j].id
	}
	return h[i].expires.Before(h[j].expires)
}

func (h leaseHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push is for container/heap.
func (h *leaseHeap) Push(x any) {
	l := x.(*lease)
	l.place = len(*h)
	*h = append(*h, l)
}

// Pop is for container/heap.
func (h *leaseHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}
