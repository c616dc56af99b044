package libcluster

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// recorded is a member's record in mode exclusive.
func recorded(id, incarnation string, workers int, seen int64) Recorded {
	m := Member{ID: id, Workers: workers}
	m.plans = planner{scheme: scheme{mode: ModeExclusive}, window: window(DefaultTTL), seen: seen}
	return Recorded{Member: m, Incarnation: incarnation, Since: 1}
}

func later(d time.Duration) moment { return moment{time.Unix(0, 0).Add(d), 0} }

func TestEachPlanThatNobodyKnowsIsWaitedForAnew(t *testing.T) {
	d := deciding{scheme: scheme{mode: ModeExclusive}, incarnation: "1"}
	s := Survey{Members: []Recorded{recorded("a", "1", 1, 100)}, Acknowledged: map[string]int64{}}
	stop := d.decide(s, later(0), 0).next
	require.False(t, stop.committed)
	s.Plan, s.Planning.Revision, s.Acknowledged["1"] = stop.encode(), 1, stop.generation
	require.Nil(t, d.decide(s, later(0), 0).next)
	// Others have gone on elsewhere, and now a record says so.
	s.Members = append(s.Members, recorded("b", "2", 1, 200))
	again := d.decide(s, later(7*time.Second), 0).next
	require.False(t, again.committed)
	_, err := parsePlan(again.encode())
	require.NoError(t, err, "an unknown incarnation may be there twice")
	s.Plan, s.Planning.Revision = again.encode(), 2
	s.Acknowledged["1"], s.Acknowledged["2"] = again.generation, again.generation
	require.Nil(t, d.decide(s, later(7*time.Second), 0).next)
	require.Nil(t, d.decide(s, later(10*time.Second), 0).next, "the later of them is waited for no shorter")
	next := d.decide(s, later(7*time.Second+untilOver(window(DefaultTTL))), 0).next
	require.True(t, next.committed)
	require.Greater(t, next.generation, int64(200))
}

func TestACoordinatorRemembersThePlanThatItHasSurveyed(t *testing.T) {
	d := deciding{scheme: scheme{mode: ModeExclusive}, incarnation: "1"}
	s := Survey{Members: []Recorded{recorded("a", "1", 1, 0)}, Acknowledged: map[string]int64{}}
	p := plan{mode: ModeExclusive, committed: true, generation: 7, total: 1, lines: []planned{
		{incarnation: "2", window: window(DefaultTTL), Assignment: Assignment{Member: Member{ID: "b", Workers: 1}}},
	}}
	s.Plan, s.Planning.Revision = p.encode(), 1
	require.Nil(t, d.decide(s, later(0), 0).next, "b has vanished, and may act")
	s.Plan, s.Planning.Revision = nil, 0
	stop := d.decide(s, later(0), 0).next
	require.False(t, stop.committed)
	require.Greater(t, stop.generation, p.generation)
	require.Contains(t, stop.lines, p.lines[0])
}

// Somebody may act by a plan that was newer than all that we know, and that the
// registry has forgotten.
func TestAfterTheRegistryHasGoneBackSomebodyUnknownIsWaitedFor(t *testing.T) {
	older := plan{mode: ModeExclusive, committed: true, generation: 7}
	older.commit(&plan{}, []Recorded{recorded("x", "1", 1, 0)})
	known := plan{mode: ModeExclusive, committed: true, generation: 9}
	known.commit(&plan{}, []Recorded{recorded("a", "2", 1, 0)})
	for what, restored := range map[string][]byte{"an older plan": older.encode(), "no plan": nil, "garbage": []byte("x")} {
		d := deciding{scheme: scheme{mode: ModeExclusive}, incarnation: "3", known: &known}
		s := Survey{
			Members: []Recorded{recorded("a", "3", 1, 9)}, Acknowledged: map[string]int64{"2": StoppedForGood},
			Planning: Planning{Plan: restored, Revision: 1},
		}
		stop := d.decide(s, later(0), 0).next
		require.False(t, stop.committed, what)
		s.Plan, s.Planning.Revision, s.Acknowledged["3"] = stop.encode(), 2, stop.generation
		require.Nil(t, d.decide(s, later(0), 0).next, what)
		require.Nil(t, d.decide(s, later(untilOver(window(DefaultTTL))-1), 0).next, what)
		require.True(t, d.decide(s, later(untilOver(window(DefaultTTL))), 0).next.committed, what)
	}
}

// What one who vanished has once said lives as long as its lease, which may be longer
// than its record.
func TestOneWhoHadStoppedForAnEarlierPlanIsWaitedForAndNamed(t *testing.T) {
	old, now := recorded("a", "1", 1, 0), recorded("b", "2", 1, 0)
	p := plan{mode: ModeExclusive, generation: 7}
	p.commit(&plan{}, []Recorded{old, now})
	old.Incarnation = "3" // it is back
	s := Survey{Members: []Recorded{old, now}, Acknowledged: map[string]int64{"1": 6, "2": 6}}
	s.Plan, s.Planning.Revision, s.Coordinator = p.encode(), 1, []byte("exclusive\t2")
	d := deciding{scheme: scheme{mode: ModeExclusive}, incarnation: "2"}
	require.Len(t, d.decide(s, later(0), 0).waiting, 1)
	require.Equal(t, []Blocker{{ID: "a"}}, cover(scheme{mode: ModeExclusive}, s).Blockers)
	s.Acknowledged["1"] = StoppedForGood
	require.NotNil(t, d.decide(s, later(0), 0).next)
	require.Empty(t, cover(scheme{mode: ModeExclusive}, s).Blockers)
}

// What a plan of another mode has replaced, nobody knows: others may act by that.
func TestAPlanOfAnotherModeIsNotBuiltOn(t *testing.T) {
	named := plan{mode: ModePlanned, committed: true, generation: 7}
	named.commit(&plan{}, []Recorded{recorded("b", "2", 1, 0)})
	for _, text := range []string{"planned\tcommit\t7\t0", "planned\tprepare\t7\t0\n", string(named.encode()), "garbage"} {
		d := deciding{scheme: scheme{mode: ModeExclusive}, incarnation: "1"}
		s := Survey{Members: []Recorded{recorded("a", "1", 1, 0), recorded("b", "2", 1, 0)}, Acknowledged: map[string]int64{}}
		s.Plan, s.Planning.Revision = []byte(text), 1
		stop := d.decide(s, later(0), 0).next
		require.False(t, stop.committed, text)
		require.Zero(t, stop.total, text)
		require.True(t, slices.ContainsFunc(stop.lines, func(l planned) bool { return l.incarnation == "2" }), "b is known, and must stop")
		s.Plan, s.Planning.Revision, s.Acknowledged["2"] = stop.encode(), 2, stop.generation
		require.Nil(t, d.decide(s, later(0), 0).next, text)
		require.Nil(t, d.decide(s, later(untilOver(window(DefaultTTL))-1), 0).next, text)
		next := d.decide(s, later(untilOver(window(DefaultTTL))), 0).next
		require.True(t, next.committed, text)
		require.Equal(t, 2, next.total, text)
	}
	d := deciding{scheme: scheme{mode: ModePlanned}, incarnation: "1"}
	s := Survey{Members: []Recorded{recorded("a", "1", 1, 0)}}
	s.Members[0].plans.mode = ModePlanned
	s.Plan, s.Planning.Revision = []byte("exclusive\tcommit\t7\t0"), 1
	next := d.decide(s, later(0), 0).next
	require.True(t, next.committed, "in mode planned nobody waits")
	require.Greater(t, next.generation, int64(7))
}

func TestOneWhoseRecordHasGoneDoesNotCoordinate(t *testing.T) {
	a, b := recorded("a", "1", 1, 0), recorded("b", "2", 1, 0)
	for _, joining := range []bool{false, true} {
		require.NoError(t, fits(scheme{mode: ModeExclusive}, "1", joining, Survey{Members: []Recorded{a, b}}))
		require.ErrorIs(t, fits(scheme{mode: ModeExclusive}, "3", joining, Survey{Members: []Recorded{a, b}}), ErrRecordGone)
		require.ErrorIs(t, fits(scheme{mode: ModePlanned}, "3", joining, Survey{Members: []Recorded{a, b}}), ErrRecordGone)
	}
}

func TestARecordThatWasCopiedUnderItsLeaseCountsOnce(t *testing.T) {
	copied := recorded("copy", "1", 3, 0)
	copied.Since = 2
	s := Survey{Members: []Recorded{copied, recorded("a", "1", 1, 0), recorded("b", "2", 1, 0)}, Acknowledged: map[string]int64{}}
	for _, mode := range []Mode{ModeExclusive, ModePlanned} {
		for i := range s.Members {
			s.Members[i].plans.mode = mode
		}
		next := (&deciding{scheme: scheme{mode: mode}, incarnation: "2"}).decide(s, later(0), 0).next
		_, err := parsePlan(next.encode())
		require.NoError(t, err, mode)
		if next.committed {
			require.Equal(t, 2, next.total, "%v: the first record counts", mode)
		}
	}
	require.NoError(t, fits(scheme{mode: ModePlanned}, "1", false, s))
}

// Whatever numbers a stranger writes, there is another plan, and it can be read.
func TestForeignNumbersDoNotEndPlanning(t *testing.T) {
	now := clockGeneration()
	for _, far := range []int64{now + farAhead, now + farAhead + 1, maxGeneration - 1, maxGeneration} {
		for _, mode := range []Mode{ModePlanned, ModeExclusive} {
			d := deciding{scheme: scheme{mode: mode}, incarnation: "1"}
			s := Survey{Members: []Recorded{recorded("a", "1", 1, 0), recorded("b", "2", 1, far)}, Acknowledged: map[string]int64{}}
			for i := range s.Members {
				s.Members[i].plans.mode = mode
			}
			absurd := plan{mode: mode, committed: true, generation: far}
			s.Plan, s.Planning.Revision = absurd.encode(), 1
			for revision := int64(2); revision < 5; revision++ {
				next := d.decide(s, later(time.Hour*time.Duration(revision)), now+1<<8).next
				require.NotNil(t, next)
				require.True(t, credible(next.generation, now+1<<8), "%v after %d: %d", mode, far, next.generation)
				_, err := parsePlan(next.encode())
				require.NoError(t, err)
				s.Plan, s.Planning.Revision = next.encode(), revision
				if next.committed {
					require.Equal(t, 2, next.total)
					break
				}
				for _, l := range next.lines {
					s.Acknowledged[l.incarnation] = next.generation
				}
			}
			p, err := parsePlan(s.Plan)
			require.NoError(t, err)
			require.True(t, p.committed, "%v after %d", mode, far)
		}
	}
}

func TestAWindowThatIsFarLongerThanTheOthersGetsNoAssignment(t *testing.T) {
	d := deciding{scheme: scheme{mode: ModeExclusive}, incarnation: "1", longest: mostWindows * window(DefaultTTL)}
	longer, longest := recorded("b", "2", 1, 0), recorded("c", "3", 1, 0)
	longer.plans.window, longest.plans.window = d.longest, d.longest+time.Millisecond
	members, _ := d.members(Survey{Members: []Recorded{recorded("a", "1", 1, 0), longer, longest}})
	require.Len(t, members, 2)
	require.False(t, slices.ContainsFunc(members, func(m Recorded) bool { return m.ID == "c" }))
}

// Those that are there keep their places, as with a total that is too large.
func TestAPlanGrowsNoLongerThanARegistryTakes(t *testing.T) {
	var members []Recorded
	for i := range 5000 {
		members = append(members, recorded(fmt.Sprintf("%0255d", i), strconv.Itoa(i), 1, 0))
	}
	last := plan{mode: ModePlanned}
	last.commit(&plan{}, members[2500:2501])
	p := plan{mode: ModePlanned}
	p.commit(&last, members)
	require.LessOrEqual(t, len(p.encode()), maxPlan)
	require.Greater(t, len(p.encode()), maxPlan*9/10)
	require.Equal(t, len(p.lines), p.total)
	require.True(t, slices.ContainsFunc(p.lines, func(l planned) bool { return l.ID == members[2500].ID }))
}
