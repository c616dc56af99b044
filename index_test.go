package libcluster

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// sortedMembers is the dumb twin of index: it keeps the members, and sorts
// everything and adds up whenever it is asked.
type sortedMembers map[string]Member

func (s sortedMembers) assignments() []Assignment {
	assignments := make([]Assignment, 0, len(s))
	for _, m := range s {
		assignments = append(assignments, Assignment{Member: m})
	}
	slices.SortFunc(assignments, func(a, b Assignment) int { return bytes.Compare([]byte(a.ID), []byte(b.ID)) })
	next := 0
	for i := range assignments {
		assignments[i].Index = next
		next += assignments[i].Workers
	}
	return assignments
}

func (s sortedMembers) place(self string) (base, workers, total int) {
	base = -1
	for _, p := range s.assignments() {
		if p.ID == self {
			base, workers = p.Index, p.Workers
		}
		total += p.Workers
	}
	return base, workers, total
}

// bytewise are IDs in their order, chosen so that folding case, comparing as
// numbers, and comparing UTF-16 (as Java and JavaScript do: 😀 before ｚ) would
// each give another one.
var bytewise = []string{"10", "9", "B", "a", "a0", "aa", "b", "é", "ｚ", "ｚa", "😀"}

// someMember draws from few IDs, so that most draws change a member that is
// there, and from all counts.
var someMember = rapid.Custom(func(t *rapid.T) Member {
	return Member{
		ID:      rapid.SampledFrom(bytewise).Draw(t, "id"),
		Workers: rapid.IntRange(1, MaxWorkers).Draw(t, "workers"),
	}
})

// requireTiles fails unless the ranges, given in order, cover [0,total)
// without a gap or an overlap.
func requireTiles(t require.TestingT, assignments []Assignment, total int) {
	next := 0
	for _, p := range assignments {
		require.Equal(t, next, p.Index, "a gap or an overlap before %s", p.ID)
		require.Positive(t, p.Workers, "of %s", p.ID)
		next += p.Workers
	}
	require.Equal(t, next, total, "the ranges end elsewhere than the total")
}

func TestIndexIsWhatSortingAndAddingUpGives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		self := rapid.SampledFrom(bytewise).Draw(t, "self")
		x, twin := newIndex(self), sortedMembers{}
		put := func(m Member) {
			x.put(m)
			twin[m.ID] = m
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) { put(someMember.Draw(t, "member")) },
			"remove": func(t *rapid.T) {
				id := rapid.SampledFrom(bytewise).Draw(t, "gone")
				x.remove(id)
				delete(twin, id)
			},
			"list anew": func(t *rapid.T) {
				x.reset()
				clear(twin)
				for _, m := range rapid.SliceOf(someMember).Draw(t, "listed") {
					put(m)
				}
			},
			"": func(t *rapid.T) {
				wantBase, wantWorkers, wantTotal := twin.place(self)
				base, workers := x.own()
				require.Equal(t, wantBase, base, "base")
				require.Equal(t, wantWorkers, workers, "workers")
				require.EqualValues(t, wantTotal, x.total, "total")
				require.Equal(t, twin.assignments(), x.assignments())
				requireTiles(t, x.assignments(), int(x.total))
			},
		})
	})
}

// Each instance computes its own place alone, from its own sums. This holds
// them against one another.
func TestAssignmentsThatInstancesComputeAloneTileTheTotal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		instances := map[string]*index{}
		for _, id := range bytewise {
			instances[id] = newIndex(id)
		}
		members := map[string]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				m := someMember.Draw(t, "member")
				members[m.ID] = true
				for _, x := range instances {
					x.put(m)
				}
			},
			"remove": func(t *rapid.T) {
				id := rapid.SampledFrom(bytewise).Draw(t, "gone")
				delete(members, id)
				for _, x := range instances {
					x.remove(id)
				}
			},
			"": func(t *rapid.T) {
				assignments := []Assignment{}
				for id, x := range instances {
					base, workers := x.own()
					if !members[id] {
						require.Equal(t, -1, base, "%s is no member", id)
						continue
					}
					assignments = append(assignments, Assignment{Member: Member{ID: id, Workers: workers}, Index: base})
				}
				slices.SortFunc(assignments, func(a, b Assignment) int { return a.Index - b.Index })
				for id, x := range instances {
					requireTiles(t, assignments, int(x.total))
					require.Equal(t, assignments, x.assignments(), "as %s sees it", id)
				}
			},
		})
	})
}

func TestMembersAreOrderedBytewise(t *testing.T) {
	for place, self := range bytewise {
		x := newIndex(self)
		for _, id := range slices.Backward(bytewise) {
			x.put(Member{ID: id, Workers: 1})
		}
		ids := []string{}
		for _, p := range x.assignments() {
			ids = append(ids, p.ID)
		}
		require.Equal(t, bytewise, ids)
		base, _ := x.own()
		require.Equal(t, place, base, "of %s", self)
	}
}

func TestInstanceThatIsNoMemberHasIndexMinusOne(t *testing.T) {
	x := newIndex("b")
	base, workers := x.own()
	require.Equal(t, -1, base)
	require.Zero(t, workers)

	// Others before it move the place that it would have, and give it none.
	x.put(Member{ID: "a", Workers: 3})
	base, _ = x.own()
	require.Equal(t, -1, base)

	x.put(Member{ID: "b", Workers: 2})
	base, workers = x.own()
	require.Equal(t, 3, base)
	require.Equal(t, 2, workers)

	x.remove("b")
	base, workers = x.own()
	require.Equal(t, -1, base)
	require.Zero(t, workers)
}

func TestRemovingWhoIsNotThereChangesNothing(t *testing.T) {
	x := newIndex("b")
	x.put(Member{ID: "b", Workers: 2})
	x.remove("a")
	x.remove("a")
	base, _ := x.own()
	require.Zero(t, base)
	require.EqualValues(t, 2, x.total)
}

func TestListOfAssignmentsBelongsToTheCaller(t *testing.T) {
	x := newIndex("a")
	x.put(Member{ID: "a", Workers: 1, Metadata: map[string]string{"zone": "east"}})
	assignments := x.assignments()
	assignments[0].Workers = 99
	assignments[0].Metadata["zone"] = "west"
	require.Equal(t, []Assignment{{Member: Member{ID: "a", Workers: 1, Metadata: map[string]string{"zone": "east"}}}}, x.assignments())
}

func TestChangeAllocatesNothing(t *testing.T) {
	members := randomMembers(1000)
	x := indexOf(members[500].ID, members)
	for name, change := range map[string]func(int, Member){
		"other workers": func(i int, m Member) {
			m.Workers = 1 + i%7
			x.put(m)
		},
		"the same again": func(_ int, m Member) { x.put(m) },
		"left and back": func(_ int, m Member) {
			x.remove(m.ID)
			x.put(m)
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := 0
			allocs := testing.AllocsPerRun(1000, func() {
				change(i, members[i%len(members)])
				x.own()
				i++
			})
			require.Zero(t, allocs)
		})
	}
}

func TestTheTotalOfAbsurdCountsDoesNotOverflow(t *testing.T) {
	x := newIndex("d")
	var change Change
	for _, id := range []string{"a", "b", "c"} {
		change.Events = append(change.Events, Event{Member: Member{ID: id, Workers: MaxWorkers}})
	}
	require.False(t, x.exceeds(Change{Events: change.Events[:1]}))
	require.True(t, x.exceeds(change))
	x.apply(change)
	require.EqualValues(t, int64(3*MaxWorkers), x.total)
	require.EqualValues(t, int64(3*MaxWorkers), x.base)
	require.True(t, x.exceeds(Change{}))
	change.Events = append(change.Events, Event{Member: Member{ID: "b"}, Gone: true}, Event{Member: Member{ID: "c"}, Gone: true})
	require.False(t, x.exceeds(change))
	require.True(t, x.exceeds(Change{Events: change.Events[:2], Reset: true}))
	require.False(t, x.exceeds(Change{Events: change.Events[:1], Reset: true}))
}
