package libcluster

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// partitioned is a plan of 12 partitions, and the survey of a cluster that is as it says.
func partitioned(lines ...planned) (*plan, Survey) {
	p := &plan{mode: ModeCooperative, committed: true, generation: 7, total: 12}
	s := Survey{Acknowledged: map[string]int64{}, Remaining: map[string]string{}}
	s.Coordinator = []byte("cooperative/12\t1")
	for _, l := range lines {
		l.Index, l.Workers = l.held.first(), 1
		p.lines = append(p.lines, l)
		m := Recorded{Member: Member{ID: l.ID, Workers: 1}, Incarnation: l.incarnation}
		m.plans.scheme = p.scheme()
		s.Members = append(s.Members, m)
	}
	s.Plan = p.encode()
	return p, s
}

func holds(id, incarnation string, held, releases partitionSet) planned {
	return planned{incarnation: incarnation, Assignment: Assignment{Member: Member{ID: id}, held: held}, releases: releases}
}

func TestCoverageOfPartitions(t *testing.T) {
	whole := []planned{holds("a", "1", partitionSet{{0, 4}}, nil), holds("b", "2", partitionSet{{4, 12}}, nil)}
	moving := []planned{holds("a", "1", partitionSet{{0, 4}}, nil), holds("b", "2", partitionSet{{4, 8}}, partitionSet{{8, 12}}), holds("c", "3", nil, nil)}
	for _, c := range []struct {
		what     string
		lines    []planned
		change   func(s *Survey)
		problems []CoverageProblem
		blockers int
	}{
		{"all is well", whole, func(*Survey) {}, nil, 0},
		{"one has no partition", append(whole, holds("c", "3", nil, nil)), func(*Survey) {}, nil, 0},
		{"partitions that move", moving, func(*Survey) {}, []CoverageProblem{{Kind: ProblemStopped, From: 8, To: 12, ID: "b"}}, 1},
		{
			"some have stopped", moving, func(s *Survey) { s.Acknowledged["2"], s.Remaining["2"] = 7, "9" },
			[]CoverageProblem{{Kind: ProblemGap, From: 8, To: 9}, {Kind: ProblemStopped, From: 9, To: 10, ID: "b"}, {Kind: ProblemGap, From: 10, To: 12}},
			1,
		},
		{
			"an acknowledgement of the plan before", moving, func(s *Survey) { s.Acknowledged["2"] = 6 },
			[]CoverageProblem{{Kind: ProblemStopped, From: 8, To: 12, ID: "b"}},
			1,
		},
		{
			"one has vanished", whole, func(s *Survey) { s.Members = s.Members[:1] },
			[]CoverageProblem{{Kind: ProblemVanished, From: 4, To: 12, ID: "b"}},
			1,
		},
		{
			"one has left", whole, func(s *Survey) { s.Members, s.Acknowledged["2"] = s.Members[:1], StoppedForGood },
			[]CoverageProblem{{Kind: ProblemVanished, From: 4, To: 12, ID: "b"}},
			0,
		},
		{
			"one is to return", whole, func(s *Survey) { s.Members[1].reserved = true },
			[]CoverageProblem{{Kind: ProblemReserved, From: 4, To: 12, ID: "b"}},
			0,
		},
		{
			"one is not named", whole[:1], func(s *Survey) {
				m := Recorded{Member: Member{ID: "b", Workers: 1}, Incarnation: "2"}
				m.plans.scheme = scheme{ModeCooperative, 12}
				s.Members = append(s.Members, m)
			},
			[]CoverageProblem{{Kind: ProblemUnplaced, ID: "b"}, {Kind: ProblemGap, From: 4, To: 12}},
			0,
		},
		{
			"another number of partitions", whole, func(s *Survey) { s.Members[1].plans.partitions = 13 },
			[]CoverageProblem{{Kind: ProblemUnplaced, ID: "b"}, {Kind: ProblemVanished, From: 4, To: 12, ID: "b"}},
			1,
		},
	} {
		_, s := partitioned(c.lines...)
		c.change(&s)
		found := cover(scheme{ModeCooperative, 12}, s)
		require.Equal(t, c.problems, brief(found), c.what)
		require.Len(t, found.Blockers, c.blockers, c.what)
		for _, p := range found.Problems {
			require.NotContains(t, p.String(), "index")
		}
		require.Equal(t, 12, found.Total)
		uncovered := false
		for _, p := range c.problems {
			uncovered = uncovered || p.From < p.To
		}
		require.Equal(t, !uncovered, found.Covered, c.what)
	}
}
