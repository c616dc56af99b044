package libcluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// memberHook calls the application back when members have changed. The balancer tells it of
// each change, and waits for nothing. The goroutine lives as long as its membership.
type memberHook struct {
	of     *membership
	before <-chan struct{} // closed when no earlier membership calls back any more
	ended  chan struct{}   // closed when the goroutine ends
	due    signal          // there may be something to tell

	mu      sync.Mutex          // guards what follows
	now     map[string]Event    // that are there, by ID
	changed map[string]struct{} // the IDs of which something may be new

	told map[string]Event // the goroutine's
}

// newMemberHook returns nil if the application wants to know nothing of the members.
func newMemberHook(m *membership) *memberHook {
	if !m.c.cfg.watchesMembers() {
		return nil
	}
	return &memberHook{
		of: m, ended: make(chan struct{}), due: newSignal(),
		now: make(map[string]Event), changed: make(map[string]struct{}), told: make(map[string]Event),
	}
}

// watchesMembers reports whether the application asks for more of the others than the
// mode needs.
func (c *Config) watchesMembers() bool {
	return c.WatchMembers || c.OnMembers != nil || c.Superseded != nil
}

// take takes in a change. The balancer calls it.
func (h *memberHook) take(change Change) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if change.Reset {
		for id := range h.now {
			h.changed[id] = struct{}{}
		}
		clear(h.now)
	}
	for _, e := range change.Events {
		id := e.Member.ID
		h.changed[id] = struct{}{}
		if e.Gone || e.Member.reserved || e.Member.plans.scheme != h.of.c.cfg.scheme() {
			delete(h.now, id)
		} else {
			h.now[id] = e
		}
	}
}

// detailed adds to the assignments what else is known of their members.
func (h *memberHook) detailed(assignments []Assignment) []Assignment {
	if h == nil {
		return assignments
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, p := range assignments {
		if e, known := h.now[p.ID]; known {
			assignments[i].Version, assignments[i].Metadata = e.Member.Version, maps.Clone(e.Member.Metadata)
		}
	}
	return assignments
}

// look has the goroutine look again, since members may have got an assignment.
func (h *memberHook) look() {
	if h != nil {
		h.due.set()
	}
}

// run is the goroutine.
func (h *memberHook) run() {
	defer close(h.ended)
	if !h.of.awaitTurn(h.before, &h.of.c.watching, h.ended) {
		return
	}
	for {
		select {
		case <-h.due:
		case <-h.of.leaving:
			return
		}
		change := h.next()
		if f := h.of.c.cfg.OnMembers; f != nil && !change.isEmpty() && !h.of.stopping() {
			f(change)
		}
		h.of.giveWay(h.told)
	}
}

// await waits until OnMembers has returned for the last time, or ctx ends.
func (h *memberHook) await(ctx context.Context) error {
	if h == nil {
		return nil
	}
	select {
	case <-h.ended:
	case <-ctx.Done():
	}
	if !isClosed(h.ended) {
		return fmt.Errorf("libcluster: left, but a call of OnMembers or Superseded has not returned: %w", context.Cause(ctx))
	}
	return nil
}

// next returns what has changed since it was called before. What has changed back is no
// change.
func (h *memberHook) next() (change MembersChange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(h.changed)) {
		before, was := h.told[id]
		after, is := h.now[id]
		switch {
		case is && !was:
			change.Joined = append(change.Joined, after.Member.clone())
		case was && !is:
			change.Left = append(change.Left, before.Member.clone())
			delete(h.told, id)
		case was && !before.Member.sameTo(after.Member):
			change.Changed = append(change.Changed, MemberUpdate{before.Member.clone(), after.Member.clone()})
		}
		if is {
			h.told[id] = after
		}
	}
	clear(h.changed)
	return change
}

// sameTo reports whether what a member says to applications is the same.
func (m Member) sameTo(n Member) bool {
	return m.ID == n.ID && m.Workers == n.Workers && m.Address == n.Address && m.Version == n.Version &&
		maps.Equal(m.Metadata, n.Metadata)
}

// Primary returns the member whose index is 0, this instance itself if it is the one, with
// all that it publishes. (In a mode with a plan the Version and Metadata of others are known
// only with [Config.WatchMembers], [Config.OnMembers] or [Config.Superseded].) False means that
// it is not known, as before the first Join, or in a static cluster on any other instance. Like
// [Cluster.OwnerOf] it may be called for each request; the member is shared with other callers,
// and its Metadata must not be changed.
//
// What it returns is what this instance knows. The primary may have been lost meanwhile, and
// only in modes [ModeExclusive] and [ModeCooperative] no other instance acts as the primary by then.
func (c *Cluster) Primary() (Assignment, bool) {
	_, o := c.owners()
	return o.owner(0)
}

// ByNewerVersion reports whether the other member's Version is newer than the own one, for
// [Config.Superseded]. A version is numbers with dots between them, such as 1.10.2, which is
// newer than 1.9. It may begin with v, and what follows the numbers makes it a pre-release:
// 1.2.0-rc1 is older than 1.2.0. What follows a plus does not count. Any other text, such
// as an empty one, is newer than no version, and no version is newer than it: a slip in
// one version must not stop a whole cluster.
func ByNewerVersion(own, other Member) bool { return newerVersion(other.Version, own.Version) }

// giveWay ends the membership if one of the members that hold an assignment is newer. A record
// that no instance renews would never go again, and proves nothing.
func (m *membership) giveWay(members map[string]Event) {
	if m.c.cfg.Superseded == nil {
		return
	}
	own := m.c.own.desired()
	_, all := m.c.owners()
	holders := slices.Clone(all.assignments)
	slices.SortFunc(holders, func(a, b Assignment) int { return cmp.Compare(a.ID, b.ID) })
	for _, holder := range holders {
		e, known := members[holder.ID]
		other := e.Member
		if known && !e.Orphan && other.ID != own.ID && m.c.cfg.Superseded(own.clone(), other.clone()) {
			m.giveUp(supersededBy(other))
			return
		}
	}
}
