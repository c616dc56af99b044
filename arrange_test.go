package libcluster

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAssignmentsOfEveryModeTileAndAreAllTheMembers(t *testing.T) {
	someMembers := rapid.SliceOfDistinct(rapid.Custom(func(t *rapid.T) Member {
		return Member{
			ID:      rapid.SampledFrom(bytewise).Draw(t, "id"),
			Workers: rapid.IntRange(1, 9).Draw(t, "workers"),
		}
	}), func(m Member) string { return m.ID })
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom([]Mode{ModeDirect, ModePlanned, ModeExclusive}).Draw(t, "mode")
		var last []Assignment
		for range 3 {
			members := someMembers.Draw(t, "members")
			total := 0
			for _, m := range members {
				total += m.Workers
			}
			before, given := slices.Clone(last), slices.Clone(members)
			assignments := mode.Arrange(last, members)
			require.Equal(t, before, last, "the places before are changed")
			require.Equal(t, given, members, "the members are changed")
			require.Len(t, assignments, len(members))
			for _, p := range assignments {
				require.Contains(t, members, p.Member)
			}
			requireTiles(t, assignments, total)
			last = assignments
		}
	})
}

func TestArrangeIsWhatTheClusterGoesBy(t *testing.T) {
	members := []Member{{ID: "c", Workers: 1}, {ID: "a", Workers: 2}, {ID: "b", Workers: 1}}
	ids := func(assignments []Assignment) (ids []string) {
		for _, p := range assignments {
			ids = append(ids, p.ID)
		}
		return ids
	}
	require.Equal(t, []string{"a", "b", "c"}, ids(ModeDirect.Arrange(nil, members)))
	last := ModePlanned.Arrange(nil, members)
	require.Equal(t, []string{"c", "a", "b"}, ids(last))
	require.Equal(t, []string{"b", "a"}, ids(ModePlanned.Arrange(last, members[1:])), "the last fills the hole")
	require.Equal(t, []string{"a", "b"}, ids(ModeDirect.Arrange(last, members[1:])))
}

func TestArrangeMakesDoWithAssignmentsThatNoClusterHas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var last []Assignment
		var members []Member
		total := 0
		for _, id := range bytewise {
			m := Member{ID: id, Workers: rapid.IntRange(1, 9).Draw(t, "workers")}
			last = append(last, Assignment{Member: m, Index: rapid.IntRange(-9, 20).Draw(t, "index")})
			members, total = append(members, m), total+m.Workers
		}
		requireTiles(t, ModePlanned.Arrange(last, members), total)
	})
}
