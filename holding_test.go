package libcluster

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// tokens is the dumb twin of a holding: the token of each partition.
type tokens map[int]int64

func (k tokens) next(set partitionSet, generation int64) tokens {
	now := tokens{}
	for n := range set.all() {
		now[n] = generation
		if token, held := k[n]; held {
			now[n] = token
		}
	}
	return now
}

func requireHolds(t *rapid.T, want tokens, h *holding) {
	require.Equal(t, len(want) == 0, h == nil)
	require.Equal(t, slices.Sorted(maps.Keys(want)), slices.AppendSeq([]int(nil), h.partitions().all()))
	got, last := tokens{}, -1
	for p := range h.all(40) {
		require.Greater(t, p.Number, last, "not in order")
		require.Equal(t, 40, p.Of)
		got[p.Number], last = p.Token, p.Number
	}
	require.Equal(t, want, got)
	for n := -1; n <= 41; n++ {
		token, held := h.token(n)
		twin, has := want[n]
		require.Equal(t, has, held, "partition %d", n)
		require.Equal(t, twin, token, "partition %d", n)
	}
}

// A partition keeps its token for as long as it is held, and gets a greater one when it is held
// anew.
func TestAPartitionKeepsItsTokenWhileItIsHeld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h *holding
		twin := tokens{}
		for generation := range rapid.Int64Range(1, 12).Draw(t, "plans") {
			before, was := h, twin
			owners := rapid.SliceOfN(rapid.IntRange(noOwner, 0), 0, 40).Draw(t, "held")
			set := partitionsOf(owners, 1)[0]
			if rapid.Bool().Draw(t, "the same") {
				set = h.partitions()
			}
			h, twin = h.next(set, generation+1), twin.next(set, generation+1)
			requireHolds(t, twin, h)
			requireHolds(t, was, before) // it has not been changed

			others := partitionsOf(rapid.SliceOfN(rapid.IntRange(noOwner, 0), 0, 40).Draw(t, "others"), 1)[0]
			rest, either := maps.Clone(was), maps.Clone(was)
			for n := range others.all() {
				delete(rest, n)
			}
			maps.Copy(either, twin)
			requireHolds(t, rest, before.less(others))
			requireHolds(t, either, before.or(h))

			both, gone := tokens{}, []Partition(nil)
			for _, n := range slices.Sorted(maps.Keys(was)) {
				if token, held := twin[n]; held && token == was[n] {
					both[n] = token
				} else {
					gone = append(gone, Partition{n, 40, was[n]})
				}
			}
			requireHolds(t, both, before.and(h))
			require.Equal(t, gone, before.without(h, 40))
			require.Equal(t, len(gone) > 0, before.loses(h))
		}
	})
}

func TestAHoldingThatDoesNotChangeIsTheSame(t *testing.T) {
	h := (*holding)(nil).next(partitionSet{{0, 3}, {5, 6}}, 7)
	require.Same(t, h, h.next(partitionSet{{0, 3}, {5, 6}}, 8))
	require.Nil(t, h.next(nil, 8))
}
