package libcluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// memberHook calls the application back when members have changed. It is one goroutine, and
// lives as long as its membership.
type memberHook struct {
	of    *membership
	ended chan struct{}    // closed when the goroutine ends
	told  map[string]Event // the goroutine's
}

// newMemberHook returns nil if the application wants to know nothing of the members.
func newMemberHook(m *membership) *memberHook {
	if m.news == nil {
		return nil
	}
	return &memberHook{of: m, ended: make(chan struct{}), told: make(map[string]Event)}
}

// run is the goroutine.
func (h *memberHook) run() {
	defer close(h.ended)
	if !h.of.watching.take(&h.of.life, h.ended) {
		return
	}
	for {
		select {
		case <-h.of.news.due:
		case <-h.of.leaving:
			return
		}
		change := h.of.news.since(h.told)
		if f := h.of.cfg.OnMembers; f != nil && !change.isEmpty() && !h.of.stopping() {
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
	if m.cfg.Superseded == nil {
		return
	}
	own := m.own.desired()
	_, all := m.owners()
	holders := slices.Clone(all.assignments)
	slices.SortFunc(holders, func(a, b Assignment) int { return cmp.Compare(a.ID, b.ID) })
	for _, holder := range holders {
		e, known := members[holder.ID]
		other := e.Member
		if known && !e.Orphan && other.ID != own.ID && m.cfg.Superseded(own.clone(), other.clone()) {
			m.giveUp(supersededBy(other))
			return
		}
	}
}

// supersededBy is why an instance leaves whose successor is there.
func supersededBy(m Member) error {
	return fmt.Errorf("%w: %q has version %.100q", ErrSuperseded, m.ID, m.Version)
}
