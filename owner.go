package libcluster

import (
	"slices"
	"sort"
)

// owners has all members' assignments, to look up. It is made at the first question, as a rule
// once for each view, and never changed.
type owners struct {
	assignments []Assignment // by index
	total       int
	of          []int // in mode cooperative: whose each partition is, an index into the assignments
}

// owner returns the member that holds a worker index, or a partition.
func (o *owners) owner(index int) (Assignment, bool) {
	if o.of != nil {
		if index < 0 || index >= len(o.of) || o.of[index] == noOwner {
			return Assignment{}, false
		}
		return o.assignments[o.of[index]], true
	}
	after := sort.Search(len(o.assignments), func(i int) bool { return o.assignments[i].Index > index })
	if after == 0 {
		return Assignment{}, false
	}
	p := o.assignments[after-1]
	return p, index-p.Index < p.Workers
}

// newOwners makes the look-up of assignments that are in the order of their indexes. partitions
// is 0 but in mode cooperative.
func newOwners(assignments []Assignment, total, partitions int) *owners {
	o := &owners{assignments: assignments, total: total}
	if partitions > 0 {
		o.of = slices.Repeat([]int{noOwner}, partitions)
		for i, p := range assignments {
			for n := range p.held.all() {
				o.of[n] = i
			}
		}
	}
	return o
}

// clone returns the assignments for a caller to keep.
func (o *owners) clone() []Assignment {
	assignments := slices.Clone(o.assignments)
	for i := range assignments {
		assignments[i].Member = assignments[i].clone()
	}
	return assignments
}
