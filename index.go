package libcluster

import (
	"maps"
	"slices"
	"strings"
)

// index turns members into this instance's assignment: pure, without I/O, clock,
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
	base, total int64
	// orphans are the members whose record no instance renews.
	orphans map[string]struct{}
}

func newIndex(self string) *index {
	return &index{self: self, members: make(map[string]Member), orphans: make(map[string]struct{})}
}

// put adds a member or replaces its record.
func (x *index) put(m Member) {
	x.shift(m.ID, int64(m.Workers)-int64(x.members[m.ID].Workers))
	x.members[m.ID] = m
	delete(x.orphans, m.ID)
}

// putOrphan is put for a record that no instance renews.
func (x *index) putOrphan(m Member) {
	x.put(m)
	x.orphans[m.ID] = struct{}{}
}

// remove forgets a member, if there is one of that ID.
func (x *index) remove(id string) {
	x.shift(id, -int64(x.members[id].Workers))
	delete(x.members, id)
	delete(x.orphans, id)
}

func (x *index) shift(id string, workers int64) {
	x.total += workers
	if id < x.self {
		x.base += workers
	}
}

// reset forgets all members.
func (x *index) reset() {
	clear(x.members)
	clear(x.orphans)
	x.base, x.total = 0, 0
}

// own returns this instance's base index and workers: -1 and 0 if it is not
// a member.
func (x *index) own() (base, workers int) {
	m, ok := x.members[x.self]
	if !ok {
		return -1, 0
	}
	return int(x.base), m.Workers
}

// assignments returns every member with its base index, in order. The result is
// the caller's.
func (x *index) assignments() []Assignment {
	assignments := make([]Assignment, 0, len(x.members))
	for _, m := range x.members {
		assignments = append(assignments, Assignment{Member: m.clone()})
	}
	slices.SortFunc(assignments, func(a, b Assignment) int { return strings.Compare(a.ID, b.ID) })
	base := 0
	for i := range assignments {
		assignments[i].Index = base
		base += assignments[i].Workers
	}
	return assignments
}

// apply takes in a change. If members of another mode are there, it returns their scheme.
func (x *index) apply(change Change) (foreign scheme) {
	if change.Reset {
		x.reset()
	}
	for _, e := range change.Events {
		switch {
		case e.Gone:
			x.remove(e.Member.ID)
		case e.Member.plans.mode != ModeDirect:
			if !e.Member.reserved && !e.Orphan { // an instance is there
				foreign = e.Member.plans.scheme
			}
			x.remove(e.Member.ID)
		case e.Orphan:
			x.putOrphan(e.Member)
		default:
			x.put(e.Member)
		}
	}
	return foreign
}

// exceeds reports whether a change would make the total larger than it may be.
func (x *index) exceeds(change Change) bool {
	total, workers := x.total, make(map[string]int64, len(change.Events))
	if change.Reset {
		total = 0
	}
	for _, e := range change.Events {
		before, again := workers[e.Member.ID]
		if !again && !change.Reset {
			before = int64(x.members[e.Member.ID].Workers)
		}
		now := int64(0)
		if !e.Gone && e.Member.plans.mode == ModeDirect {
			now = int64(e.Member.Workers)
		}
		workers[e.Member.ID] = now
		total += now - before
	}
	return total > MaxWorkers
}

func (x *index) clone() *index {
	y := *x
	y.members, y.orphans = maps.Clone(x.members), maps.Clone(x.orphans)
	return &y
}

// firstThere returns the first member by ID whose record is neither orphaned nor reserved.
// whole is true if that is so of all members, and there are members.
func (x *index) firstThere() (first string, whole bool) {
	whole = len(x.members) > 0
	for id, m := range x.members {
		if _, orphan := x.orphans[id]; orphan || m.reserved {
			whole = false
		} else if first == "" || id < first {
			first = id
		}
	}
	return first, whole
}

// recorded returns the members as a survey has them, as far as direct mode minds.
func (x *index) recorded() []Recorded {
	all := make([]Recorded, 0, len(x.members))
	for id, m := range x.members {
		r := Recorded{Member: m, Incarnation: "somebody's"}
		if _, orphan := x.orphans[id]; orphan {
			r.Incarnation = ""
		}
		all = append(all, r)
	}
	return all
}
