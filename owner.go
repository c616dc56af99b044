package libcluster

import (
	"slices"
	"sort"
)

// owners has all members' places, to look up. It is made at the first question, as a rule
// once for each view, and never changed.
type owners struct {
	places []Place // by index
	total  int
	of     []int // in mode cooperative: whose each partition is, an index into the places
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
func (c *Cluster) OwnerOf(key string) (Place, bool) {
	_, o := c.owners()
	return o.owner(Slot(key, o.total))
}

// owner returns the member that holds a worker index, or a partition.
func (o *owners) owner(index int) (Place, bool) {
	if o.of != nil {
		if index < 0 || index >= len(o.of) || o.of[index] == noOwner {
			return Place{}, false
		}
		return o.places[o.of[index]], true
	}
	after := sort.Search(len(o.places), func(i int) bool { return o.places[i].Index > index })
	if after == 0 {
		return Place{}, false
	}
	p := o.places[after-1]
	return p, index-p.Index < p.Workers
}

// newOwners makes the look-up of a view's places.
func newOwners(v *view, places []Place) *owners {
	slices.SortFunc(places, byIndex)
	o := &owners{places: places, total: v.state.Total}
	if v.inc != nil && v.inc.c.cfg.Mode == ModeCooperative {
		o.of = slices.Repeat([]int{noOwner}, o.total)
		for i, p := range places {
			for n := range p.held.all() {
				o.of[n] = i
			}
		}
		return o
	}
	if n := len(places); n > 0 && !v.static() {
		o.total = places[n-1].Index + places[n-1].Workers
	}
	return o
}

// clone returns the places for a caller to keep.
func (o *owners) clone() []Place {
	places := slices.Clone(o.places)
	for i := range places {
		places[i].Member = places[i].clone()
	}
	return places
}
