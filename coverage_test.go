package libcluster

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// healthy draws a cluster in which all is well.
func healthy(t *rapid.T, mode Mode) (Survey, *plan) { return healthyOf(t, mode, 1) }

// healthyOf draws one of so many members or more.
func healthyOf(t *rapid.T, mode Mode, least int) (Survey, *plan) {
	s := Survey{Acknowledged: map[string]int64{}}
	for i, m := range drawMembers(t, "workers", 0, rapid.IntRange(least, 8).Draw(t, "members"), 4) {
		m.plans.mode = mode
		s.Members = append(s.Members, Recorded{Member: m, Incarnation: fmt.Sprint("i", i), Since: int64(i + 1)})
	}
	if mode == ModeDirect {
		return s, nil
	}
	p := &plan{mode: mode, generation: 1000}
	p.commit(&plan{}, s.Members)
	s.Plan, s.Planning.Revision, s.Coordinator = p.encode(), 1, []byte(mode.String())
	return s, p
}

// everyMode runs a property in each mode.
func everyMode(t *testing.T, modes []Mode, property func(t *rapid.T, mode Mode)) {
	t.Helper()
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { property(t, mode) })
		})
	}
}

var (
	allModes   = []Mode{ModeDirect, ModePlanned, ModeExclusive}
	planned2   = []Mode{ModePlanned, ModeExclusive}
	noProblems = []CoverageProblem(nil)
)

// brief is a problem without its text.
func brief(c Coverage) (all []CoverageProblem) {
	for _, p := range c.Problems {
		p.Text, p.mode = "", 0
		all = append(all, p)
	}
	return all
}

// placeOf returns where a member is.
func placeOf(c Coverage, id string) Assignment {
	i := slices.IndexFunc(c.Assignments, func(p Assignment) bool { return p.ID == id })
	return c.Assignments[i]
}

func TestClusterInWhichAllIsWellIsCovered(t *testing.T) {
	everyMode(t, allModes, func(t *rapid.T, mode Mode) {
		s, _ := healthy(t, mode)
		c := cover(scheme{mode: mode}, s)
		require.True(t, c.Covered)
		require.Equal(t, noProblems, c.Problems)
		require.Empty(t, c.Blockers)
		var members []Member
		for _, m := range s.Members {
			members = append(members, m.Member)
		}
		tile(t, c.Assignments, members)
	})
}

func TestMemberThatNobodyIsBehindIsReportedAndNothingElse(t *testing.T) {
	everyMode(t, allModes, func(t *rapid.T, mode Mode) {
		s, _ := healthy(t, mode)
		before := cover(scheme{mode: mode}, s)
		i := rapid.IntRange(0, len(s.Members)-1).Draw(t, "which")
		m := &s.Members[i]
		at := placeOf(before, m.ID)
		want := CoverageProblem{From: at.Index, To: at.Index + at.Workers, ID: m.ID}
		switch kind := rapid.SampledFrom([]ProblemKind{ProblemOrphan, ProblemReserved, ProblemVanished}).Draw(t, "kind"); {
		case kind == ProblemReserved:
			m.reserved, m.Incarnation, want.Kind = true, "parked", ProblemReserved
		case mode == ModeDirect:
			m.Incarnation, want.Kind = "", ProblemOrphan
		case kind == ProblemVanished && len(s.Members) > 1:
			s.Members = slices.Delete(s.Members, i, i+1)
			want.Kind = ProblemVanished
		default:
			m.Incarnation, want.Kind = "another", ProblemVanished
		}
		c := cover(scheme{mode: mode}, s)
		require.False(t, c.Covered)
		require.Equal(t, []CoverageProblem{want}, brief(c))
		require.Equal(t, mode == ModeExclusive, len(c.Blockers) == 1, "%v", c.Blockers)
		require.Equal(t, before.Total, c.Total)
	})
}

func TestForeignRecordIsAnOrphan(t *testing.T) {
	everyMode(t, allModes, func(t *rapid.T, mode Mode) {
		s, _ := healthy(t, mode)
		s.Members = append(s.Members, Recorded{Member: Member{ID: "z", Workers: 3}})
		c := cover(scheme{mode: mode}, s)
		require.Equal(t, mode != ModeDirect, c.Covered, "with a plan what another program has written has no assignment")
		want := CoverageProblem{Kind: ProblemOrphan, ID: "z"}
		if mode == ModeDirect {
			want.From, want.To = c.Total-3, c.Total
		}
		require.Equal(t, []CoverageProblem{want}, brief(c))
	})
}

// replan gives the survey a plan of other places, which may be wrong.
func replan(s *Survey, p *plan) { s.Plan = p.encode() }

func TestGapInAPlanIsReportedAndNothingElse(t *testing.T) {
	everyMode(t, planned2, func(t *rapid.T, mode Mode) {
		s, p := healthy(t, mode)
		gap := rapid.IntRange(1, 5).Draw(t, "gap")
		from := rapid.IntRange(0, len(p.lines)).Draw(t, "before which")
		at := p.total
		for i := from; i < len(p.lines); i++ {
			at = min(at, p.lines[i].Index)
			p.lines[i].Index += gap
		}
		p.total += gap
		replan(&s, p)
		c := cover(scheme{mode: mode}, s)
		require.False(t, c.Covered)
		require.Equal(t, []CoverageProblem{{Kind: ProblemGap, From: at, To: at + gap}}, brief(c))
	})
}

// Of two that overlap, the problem is that of the one that the plan names later.
func TestOverlapInAPlanIsReportedAndNothingElse(t *testing.T) {
	everyMode(t, planned2, func(t *rapid.T, mode Mode) {
		s, p := healthyOf(t, mode, 2)
		second := rapid.IntRange(1, len(p.lines)-1).Draw(t, "which")
		overlap := rapid.IntRange(1, min(p.lines[second-1].Workers, p.lines[second].Workers)).Draw(t, "overlap")
		for i := second; i < len(p.lines); i++ {
			p.lines[i].Index -= overlap
		}
		p.total -= overlap
		replan(&s, p)
		at := p.lines[second]
		c := cover(scheme{mode: mode}, s)
		require.False(t, c.Covered)
		require.Equal(t, []CoverageProblem{
			{Kind: ProblemOverlap, From: at.Index, To: at.Index + overlap, ID: at.ID},
		}, brief(c))
		require.Contains(t, c.Problems[0].Text, p.lines[second-1].ID)
	})
}

// Whatever a plan says: the answer is "covered" only if its places tile.
func TestPlanThatDoesNotTileIsNeverCovered(t *testing.T) {
	everyMode(t, planned2, func(t *rapid.T, mode Mode) {
		s, p := healthy(t, mode)
		for i := range p.lines {
			p.lines[i].Index += rapid.IntRange(-2, 2).Draw(t, "shift")
			p.lines[i].Index = max(0, p.lines[i].Index)
		}
		p.total += rapid.IntRange(-1, 1).Draw(t, "total")
		replan(&s, p)
		holders := make([]int, p.total)
		good := p.total > 0
		for _, l := range p.lines {
			for i := l.Index; i < l.Index+l.Workers; i++ {
				if i >= len(holders) {
					good = false
				} else {
					holders[i]++
				}
			}
		}
		wrong := map[int]bool{}
		for i, n := range holders {
			if n != 1 {
				good, wrong[i] = false, true
			}
		}
		c := cover(scheme{mode: mode}, s)
		require.Equal(t, good, c.Covered, "%v", c.Problems)
		for _, found := range c.Problems {
			for i := found.From; i < found.To; i++ {
				delete(wrong, i)
			}
		}
		require.Empty(t, slices.Sorted(maps.Keys(wrong)), "indexes that nothing was said of: %v", c.Problems)
	})
}

func TestPlanThatMakesNoSenseIsNotCovered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, p := healthy(t, ModeExclusive)
		text := rapid.SampledFrom([]string{
			"garbage", "exclusive\tcommit\tx\t1\n", "planned\tcommit\t1\t1\n", "exclusive\tcommit\t1\t0\n",
			string(p.encode()) + "more\n", string(p.encode()) + string(p.encode()),
		}).Draw(t, "plan")
		s.Plan = []byte(text)
		c := cover(scheme{mode: ModeExclusive}, s)
		require.NotEmpty(t, c.Problems)
		if c.Covered {
			for _, found := range brief(c) {
				require.Equal(t, ProblemBadPlan, found.Kind, "lines too many take nothing away")
			}
		}
	})
}

func TestClusterThatHasStoppedIsNotCoveredAndNamesWhoHasNot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, p := healthy(t, ModeExclusive)
		p.committed = false
		replan(&s, p)
		s.Coordinator = []byte("exclusive\n7000\tm0")
		var want []string
		for _, l := range p.lines {
			if rapid.Bool().Draw(t, "drained") {
				s.Acknowledged[l.incarnation] = rapid.SampledFrom([]int64{p.generation, StoppedForGood}).Draw(t, "note")
				continue
			}
			if rapid.Bool().Draw(t, "drained before") {
				s.Acknowledged[l.incarnation] = p.generation - 1
			}
			want = append(want, l.ID)
		}
		c := cover(scheme{mode: ModeExclusive}, s)
		require.False(t, c.Covered)
		require.Equal(t, []CoverageProblem{{Kind: ProblemStopped, To: p.total}}, brief(c))
		require.Len(t, c.Assignments, len(want))
		for i, h := range c.Blockers {
			require.Equal(t, want[i], h.ID)
			require.Contains(t, c.Problems[0].Text, h.ID)
			require.Equal(t, h.ID == "m0", h.Since.Equal(time.UnixMilli(7000)), "%v", h.Since)
		}
	})
}

func TestWhatLeavesEveryIndexCoveredIsReportedToo(t *testing.T) {
	everyMode(t, planned2, func(t *rapid.T, mode Mode) {
		s, _ := healthy(t, mode)
		newcomer := Member{ID: "new", Workers: 1}
		newcomer.plans.mode = mode
		s.Members = append(s.Members, Recorded{Member: newcomer, Incarnation: "n"})
		other := Member{ID: "other", Workers: 1}
		s.Members = append(s.Members, Recorded{Member: other, Incarnation: "o"})
		s.Coordinator = nil
		c := cover(scheme{mode: mode}, s)
		require.True(t, c.Covered)
		require.Equal(t, []CoverageProblem{
			{Kind: ProblemNoCoordinator}, {Kind: ProblemUnplaced, ID: "new"}, {Kind: ProblemUnplaced, ID: "other"},
		}, brief(c))
	})
}

func TestClusterOfNobodyIsNotCovered(t *testing.T) {
	everyMode(t, allModes, func(t *rapid.T, mode Mode) {
		s, _ := healthy(t, mode)
		total := cover(scheme{mode: mode}, s).Total
		s.Members = nil
		c := cover(scheme{mode: mode}, s)
		require.False(t, c.Covered)
		if mode == ModeDirect {
			total = 0
		}
		require.Equal(t, []CoverageProblem{{Kind: ProblemNobody, To: total}}, brief(c))
	})
	c := cover(scheme{mode: ModeExclusive}, Survey{})
	require.False(t, c.Covered)
	require.Equal(t, []CoverageProblem{{Kind: ProblemNobody}}, brief(c))
}

func TestProblemIsToldInOneLine(t *testing.T) {
	require.Equal(t, "gap, index 3: nobody", CoverageProblem{Kind: ProblemGap, From: 3, To: 4, Text: "nobody"}.String())
	require.Equal(t, "orphan, indexes 3 to 5, a: no lease", CoverageProblem{Kind: ProblemOrphan, From: 3, To: 6, ID: "a", Text: "no lease"}.String())
	require.Equal(t, "gap, partitions 3 to 5: nobody", CoverageProblem{Kind: ProblemGap, From: 3, To: 6, Text: "nobody", mode: ModeCooperative}.String())
	require.Equal(t, "unplaced, a: no place", CoverageProblem{Kind: ProblemUnplaced, ID: "a", Text: "no place"}.String())
	require.Equal(t, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more", some([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}))
}

func TestRecordThatIsReservedSaysSo(t *testing.T) {
	m := Member{ID: "a", Workers: 2, reserved: true}
	require.Equal(t, `{"workers":2,"kept":true}`, string(m.Record()))
	read, err := ParseMember("a", m.Record())
	require.NoError(t, err)
	require.Equal(t, m, read)
}
