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

// OwnerOf returns the member that owns a key, as far as this instance knows. It is for
// an instance that hands work to others: a front end, as a rule passive, that passes a
// request on to the owner's Address. It agrees with [State.Owns] on that member in the
// same generation. False means that the owner is not known: there is no member, or the
// cluster is static, where this instance knows only itself.
//
// OwnerOf is fast enough to be called for each request, and takes a lock only the first
// time after a change. The member is shared with other callers: its Metadata must not be
// changed. As with [Cluster.Members], an instance that was fenced or has left uses the
// last list that it knew.
func (c *Cluster) OwnerOf(key string) (Assignment, bool) {
	_, o := c.owners()
	return o.owner(Slot(key, o.total))
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

// newOwners makes the look-up of a view's assignments.
func newOwners(v *view, assignments []Assignment) *owners {
	slices.SortFunc(assignments, byIndex)
	o := &owners{assignments: assignments, total: v.state.Total}
	if v.inc != nil && v.inc.c.cfg.Mode == ModeCooperative {
		o.of = slices.Repeat([]int{noOwner}, o.total)
		for i, p := range assignments {
			for n := range p.held.all() {
				o.of[n] = i
			}
		}
		return o
	}
	if n := len(assignments); n > 0 && !v.static() {
		o.total = assignments[n-1].Index + assignments[n-1].Workers
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
