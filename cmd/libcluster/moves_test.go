package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/libcluster/libcluster"
)

// someScenario draws members of any worker counts, or of equal ones, and what
// happens to them. Whatever happens, somebody is there.
func someScenario(t *rapid.T, equal bool) *scenario {
	s := newScenario(addFlags(pflag.NewFlagSet("test", pflag.ContinueOnError)), &cobra.Command{})
	s.keys = 20_000
	present := rapid.IntRange(2, 30).Draw(t, "members")
	s.members = fmt.Sprint(present)
	s.stableIDs = rapid.Bool().Draw(t, "stable")
	s.counts = []int{rapid.IntRange(1, 4).Draw(t, "workers")}
	if !equal {
		s.counts = rapid.SliceOfN(rapid.IntRange(1, 4), 1, 5).Draw(t, "workers of each")
	}
	more := map[asked]int{{"join", "1"}: 1, {"join", "3"}: 3, {"leave", "1"}: -1}
	for range rapid.IntRange(1, 4).Draw(t, "changes") {
		possible := []asked{{"join", "1"}, {"join", "3"}, {rollingRestart, placesKept}}
		if present > 1 {
			possible = append(possible, asked{"leave", "1"}, asked{rollingRestart, placesFreed})
		}
		change := rapid.SampledFrom(possible).Draw(t, "change")
		present += more[change]
		s.changes = append(s.changes, change)
	}
	return s
}

// outcomes makes a scenario happen.
func (s *scenario) outcomes(t *rapid.T, m libcluster.Mode) []outcome {
	seed := rapid.Uint64().Draw(t, "seed")
	start, changes, err := s.tell(seed)
	require.NoError(t, err)
	return measure(m, libcluster.DefaultPartitions, start, changes, newKeys(int(s.keys), rand.New(rand.NewPCG(seed, 1)).Uint64))
}

// slot is the index of Slot among the functions.
const slot = 1

// chance is how far a sample of 20,000 keys may be off, for each time that keys move.
const chance = 0.02

func TestNothingMovesLessThanTheLeast(t *testing.T) {
	t.Parallel()
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				for _, o := range someScenario(t, false).outcomes(t, m) {
					for f := range functions {
						require.GreaterOrEqual(t, o.moved[f], o.least-chance*max(1, o.least), "%+v", o)
					}
				}
			})
		})
	}
}

func TestPlannedModeAndSlotMoveTheLeastWhenMembersJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := someScenario(t, false)
		s.changes = []asked{{"join", "1"}}
		o := s.outcomes(t, libcluster.ModePlanned)[0]
		require.Empty(t, o.renumbered)
		require.InDelta(t, o.least, o.moved[slot], chance)
	})
}

// The one who leaves has its keys divided between all; the last one's follow it to
// the hole.
func TestPlannedModeAndSlotMoveTwiceTheLeastWhenAMemberLeaves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := someScenario(t, true)
		s.changes = []asked{{"leave", "1"}}
		o := s.outcomes(t, libcluster.ModePlanned)[0]
		require.LessOrEqual(t, len(o.renumbered), 1)
		require.LessOrEqual(t, o.moved[slot], 2*o.least+chance)
	})
}

func TestRestartUnderAReservedAssignmentMovesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := someScenario(t, false)
		s.changes = []asked{{rollingRestart, placesKept}}
		o := s.outcomes(t, libcluster.ModeDirect)[0]
		require.Empty(t, o.renumbered)
		require.Zero(t, o.moved)
		require.Zero(t, o.least)
	})
}

// With hash % total a key stays if it has the same remainder: of n and n+1, which
// have no factor in common, one key in n+1 has.
func TestModuloMovesNearlyAllKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newScenario(addFlags(pflag.NewFlagSet("test", pflag.ContinueOnError)), &cobra.Command{})
		s.keys, s.stableIDs, s.counts = 20_000, true, []int{1}
		n := rapid.IntRange(1, 9).Draw(t, "n") // beyond, node10 is sorted before node2
		s.members, s.changes = fmt.Sprint(n), []asked{{"join", "node" + fmt.Sprint(n+1)}}
		if n == 9 {
			s.changes[0].value = "node91"
		}
		o := s.outcomes(t, libcluster.ModeDirect)[0]
		require.Empty(t, o.renumbered)
		require.InDelta(t, float64(n)/float64(n+1), o.moved[0], chance)
		require.InDelta(t, o.least, o.moved[slot], chance)
	})
}

func TestRenumberingIsCountedForThoseWhoStay(t *testing.T) {
	place := func(id string, index int) libcluster.Assignment {
		return libcluster.Assignment{Member: libcluster.Member{ID: id, Workers: 1}, Index: index}
	}
	var o outcome
	known := map[string]int{}
	o.renumber(known, []libcluster.Assignment{place("a", 0), place("b", 1), place("c", 2)},
		[]libcluster.Assignment{place("b", 0), place("c", 1), place("d", 2)})
	o.renumber(known, []libcluster.Assignment{place("b", 0), place("c", 1), place("d", 2)},
		[]libcluster.Assignment{place("c", 0), place("d", 1)})
	slices.SortFunc(o.renumbered, func(a, b renumbering) int { return cmp.Compare(a.ID, b.ID) })
	require.Equal(t, []renumbering{{"b", 1, 0, 1}, {"c", 2, 0, 2}, {"d", 2, 1, 1}}, o.renumbered)
}
