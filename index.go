package libcluster

import (
	"slices"
	"strings"
)

// index turns members into this instance's place: pure, without I/O, clock,
// lock or goroutine.
//
// Members are ordered by ID, and each one's base is the sum of the workers
// before it. An instance needs only its own base and the total, and both
// follow from sums alone: a change moves the total by the difference in
// workers, and the base by as much when the changed member is ordered before
// this one. So nothing is kept sorted, and a change costs one look-up. The
// sorted list is made when somebody asks for it.
type index struct {
	self    string
	members map[string]Member
	// base is the sum of the workers of all members ordered before self,
	// whether or not self is a member.
	base, total int
	// orphans are the members whose record nobody renews.
	orphans map[string]struct{}
}

func newIndex(self string) *index {
	return &index{self: self, members: make(map[string]Member), orphans: make(map[string]struct{})}
}

// put adds a member or replaces its record.
func (x *index) put(m Member) {
	x.shift(m.ID, m.Workers-x.members[m.ID].Workers)
	x.members[m.ID] = m
	delete(x.orphans, m.ID)
}

// putOrphan is put for a record that nobody renews.
func (x *index) putOrphan(m Member) {
	x.put(m)
	x.orphans[m.ID] = struct{}{}
}

// remove forgets a member, if there is one of that ID.
func (x *index) remove(id string) {
	x.shift(id, -x.members[id].Workers)
	delete(x.members, id)
	delete(x.orphans, id)
}

func (x *index) shift(id string, workers int) {
	x.total += workers
	if id < x.self {
		x.base += workers
	}
}

// reset forgets everybody.
func (x *index) reset() {
	clear(x.members)
	clear(x.orphans)
	x.base, x.total = 0, 0
}

// place returns this instance's base index and workers: -1 and 0 if it is not
// a member.
func (x *index) place() (base, workers int) {
	m, ok := x.members[x.self]
	if !ok {
		return -1, 0
	}
	return x.base, m.Workers
}

// places returns every member with its base index, in order. The result is
// the caller's.
func (x *index) places() []Place {
	places := make([]Place, 0, len(x.members))
	for _, m := range x.members {
		places = append(places, Place{Member: m.clone()})
	}
	slices.SortFunc(places, func(a, b Place) int { return strings.Compare(a.ID, b.ID) })
	base := 0
	for i := range places {
		places[i].Index = base
		base += places[i].Workers
	}
	return places
}
