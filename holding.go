package libcluster

import (
	"cmp"
	"iter"
	"slices"
	"sort"
)

// Partition is one of the parts of the work that mode [ModeCooperative] divides, as one
// incarnation of one instance holds it.
type Partition struct {
	// Number is 0 to Of-1, and Of is how many there are: [Config.Partitions].
	Number, Of int
	// Token is the generation of the plan by which this instance has got the partition. It is a
	// fencing token: it grows with each hand-over of this partition, and stays while only
	// others move.
	Token int64
}

// Owns reports whether a key belongs to the partition, which is number Slot(key, Of).
func (p Partition) Owns(key string) bool { return Slot(key, p.Of) == p.Number }

// holding is the partitions that an incarnation holds. It is never changed.
type holding struct {
	set    partitionSet
	grants []grant // the same, in order
}

// grant is partitions that came by one plan.
type grant struct {
	span
	token int64
}

// next returns what is held by a plan of that generation: h itself if it is the same. What is
// held by h already keeps its token.
func (h *holding) next(set partitionSet, generation int64) *holding {
	switch {
	case len(set) == 0:
		return nil
	case h == nil:
		h = new(holding)
	case slices.Equal(h.set, set):
		return h
	}
	grants := h.grantsOf(set)
	for _, r := range set.minus(h.set) {
		grants = append(grants, grant{r, generation})
	}
	return newHolding(set, grants)
}

// newHolding returns what holds a set by these grants.
func newHolding(set partitionSet, grants []grant) *holding {
	slices.SortFunc(grants, func(a, b grant) int { return cmp.Compare(a.from, b.from) })
	return &holding{set, grants}
}

// grantsOf returns the grants of what is in the set.
func (h *holding) grantsOf(set partitionSet) (grants []grant) {
	for _, g := range h.grants {
		for _, r := range set.and(partitionSet{g.span}) {
			grants = append(grants, grant{r, g.token})
		}
	}
	return grants
}

// less returns what of h is not in the set.
func (h *holding) less(set partitionSet) *holding {
	rest := h.partitions().minus(set)
	if len(rest) == 0 {
		return nil
	}
	return newHolding(rest, h.grantsOf(rest))
}

// or returns what either holds, by the token of other if both do.
func (h *holding) or(other *holding) *holding {
	rest := h.less(other.partitions())
	if rest == nil || other == nil {
		return cmp.Or(other, rest)
	}
	return newHolding(rest.set.or(other.set), slices.Concat(rest.grants, other.grants))
}

// and returns what both hold by the same token.
func (h *holding) and(other *holding) *holding {
	both := new(holding)
	for p := range h.all(0) {
		if token, held := other.token(p.Number); !held || token != p.Token {
			continue
		}
		if n := len(both.grants); n > 0 && both.grants[n-1].to == p.Number && both.grants[n-1].token == p.Token {
			both.grants[n-1].to++
		} else {
			both.grants = append(both.grants, grant{span{p.Number, p.Number + 1}, p.Token})
		}
		both.set = both.set.grow(span{p.Number, p.Number + 1})
	}
	if len(both.set) == 0 {
		return nil
	}
	return both
}

// loses reports whether h holds anything that next does not hold by the same token.
func (h *holding) loses(next *holding) bool { return len(h.without(next, 0)) > 0 }

// partitions is the set of what is held, whether or not anything is.
func (h *holding) partitions() partitionSet {
	if h == nil {
		return nil
	}
	return h.set
}

// holdsAs reports whether a partition is held by the same token in both states, or in neither.
func (s State) holdsAs(t State, partition int) bool {
	is, _ := s.held.token(partition)
	was, _ := t.held.token(partition)
	return is == was
}

// token returns the token of a partition, and whether it is held.
func (h *holding) token(partition int) (int64, bool) {
	if h == nil {
		return 0, false
	}
	after := sort.Search(len(h.grants), func(i int) bool { return h.grants[i].from > partition })
	if after == 0 || partition >= h.grants[after-1].to {
		return 0, false
	}
	return h.grants[after-1].token, true
}

// all yields the partitions in order, of so many.
func (h *holding) all(of int) iter.Seq[Partition] {
	return func(yield func(Partition) bool) {
		if h == nil {
			return
		}
		for _, g := range h.grants {
			for n := g.from; n < g.to; n++ {
				if !yield(Partition{n, of, g.token}) {
					return
				}
			}
		}
	}
}

// without returns the partitions of h that other does not hold by the same token.
func (h *holding) without(other *holding, of int) (ps []Partition) {
	if h == other {
		return nil
	}
	for p := range h.all(of) {
		if token, held := other.token(p.Number); !held || token != p.Token {
			ps = append(ps, p)
		}
	}
	return ps
}

// Held yields the partitions that this instance holds in mode [ModeCooperative], in order of
// their numbers. In the other modes, and if the state is not active, there are none.
func (s State) Held() iter.Seq[Partition] { return s.held.all(s.Total) }

// Partition returns a partition that this instance holds in mode [ModeCooperative], with its
// token. False means that the instance does not hold it.
func (s State) Partition(number int) (Partition, bool) {
	token, held := s.held.token(number)
	return Partition{number, s.Total, token}, held
}

// Holds reports whether the member holds a worker index, or in mode [ModeCooperative] a
// partition, by the newest plan that this instance knows.
func (p Assignment) Holds(index int) bool {
	if p.held != nil {
		return p.held.has(index)
	}
	return p.Index >= 0 && index >= p.Index && index-p.Index < p.Workers
}

// PartitionRanges returns numbers of partitions, which come in order, as the short text that
// plans and logs have, such as 0-12,17,40-63.
func PartitionRanges(numbers iter.Seq[int]) string {
	var set partitionSet
	for n := range numbers {
		set = set.grow(span{n, n + 1})
	}
	return set.String()
}

// Partitions yields the numbers of the partitions that the member holds in mode
// [ModeCooperative], in order.
func (p Assignment) Partitions() iter.Seq[int] { return p.held.all() }
