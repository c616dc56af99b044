package simulation

import (
	"slices"
	"strings"

	"github.com/libcluster/libcluster"
)

// history is who was a member at each revision of the registry. A store that goes
// back begins another era, in which revisions mean something else from there on.
type history struct {
	eras []map[int64][]libcluster.Member
}

// era returns the number of the present one.
func (h *history) era() int { return len(h.eras) - 1 }

// note is to be called before and after each change.
func (h *history) note(revision int64, members func() []libcluster.Member) {
	if len(h.eras) == 0 {
		h.eras = append(h.eras, map[int64][]libcluster.Member{})
	}
	now := h.eras[h.era()]
	if _, known := now[revision]; !known {
		now[revision] = members()
	}
}

// back begins the era of a store that is as it was at a revision of an era.
func (h *history) back(era int, revision int64) {
	past := map[int64][]libcluster.Member{}
	for r, members := range h.eras[era] {
		if r <= revision {
			past[r] = members
		}
	}
	h.eras = append(h.eras, past)
}

// places is the dumb twin of the index: sort, and add up.
func places(members []libcluster.Member) (places []libcluster.Assignment, total int) {
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b libcluster.Member) int { return strings.Compare(a.ID, b.ID) })
	places = []libcluster.Assignment{}
	for _, m := range members {
		places = append(places, libcluster.Assignment{Member: m, Index: total})
		total += m.Workers
	}
	return places, total
}

// stateOf is what an instance should hold among these members: index -1 and the
// workers of the others, unless it is active.
func stateOf(id string, active bool, members []libcluster.Member) (index, workers, total int) {
	all, total := places(members)
	for _, p := range all {
		switch {
		case p.ID == id && active:
			return p.Index, p.Workers, total
		case p.ID == id:
			return -1, p.Workers, total - p.Workers
		}
	}
	return -1, 0, total
}
