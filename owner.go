package libcluster

import "sort"

// owners is everybody's place, to look up. It is made when somebody asks, once
// for each view, and never changed.
type owners struct {
	places []Place // by index
	total  int
}

// OwnerOf returns the member that owns a key, as far as this instance knows, for
// one that hands work to others: a front end, as a rule passive, that passes a
// request on to the owner's Address. It says the same as [State.Owns] on that
// member in the same generation. False means that the owner is not known: there is
// no member, or the cluster is static, where only this instance is.
//
// It is fast enough to be asked for each request, and takes no lock but for the
// first time after a change. The member is shared with other callers: its Metadata
// must not be changed. As with [Cluster.Members] an instance that was fenced, or
// has left, has the last list that it knew.
func (c *Cluster) OwnerOf(key string) (Place, bool) {
	o := c.view.Load().owners()
	return o.of(Slot(key, o.total))
}

// of returns who holds a worker index.
func (o *owners) of(index int) (Place, bool) {
	after := sort.Search(len(o.places), func(i int) bool { return o.places[i].Index > index })
	if after == 0 {
		return Place{}, false
	}
	p := o.places[after-1]
	return p, index-p.Index < p.Workers
}

// owners returns the places of this view. Those who ask first at the same time
// make it more than once, which does no harm. A view that is about to be replaced
// may get the places of the next one: the index changes before the view does. So
// the total is that of the places, and not the state's.
func (v *view) owners() *owners {
	if o := v.known.Load(); o != nil {
		return o
	}
	o := &owners{places: v.places(), total: v.state.Total}
	sort.Slice(o.places, func(i, j int) bool { return o.places[i].Index < o.places[j].Index })
	if n := len(o.places); n > 0 && !v.inc.static() {
		o.total = o.places[n-1].Index + o.places[n-1].Workers
	}
	v.known.Store(o)
	return o
}

// static reports whether the registry knows this instance's place, and nobody
// else's.
func (inc *incarnation) static() bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	return inc.assigned != nil
}
