package httpapi

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/libcluster/libcluster"
)

func at(id string, index, workers int) member {
	return member{ID: id, Index: index, Workers: workers, holds: []span{{index, index + workers}}}
}

func TestWhatChangedIsToldInWords(t *testing.T) {
	a, b, c := at("a", 0, 2), at("b", 2, 1), at("c", 3, 4)
	before := picture{State: state{Phase: libcluster.PhaseActive}, Members: []member{a, b}}
	crowd := before
	for n := range 5 {
		crowd.Members = append(crowd.Members, at(fmt.Sprint("n", n), 3+n, 1))
	}
	for want, now := range map[string]picture{
		"":                             before,
		"c joined":                     {State: before.State, Members: []member{a, b, c}},
		"b gone":                       {State: before.State, Members: []member{a}},
		"a gone; b moved":              {State: before.State, Members: []member{at("b", 0, 1)}},
		"a (3) with other workers":     {State: before.State, Members: []member{at("a", 0, 3), b}},
		"this instance is fenced":      {State: state{Phase: libcluster.PhaseFenced}, Members: before.Members},
		"b waited for":                 {State: before.State, Members: before.Members, Blockers: []blocker{{ID: "b"}}},
		"n0, n1, n2 and 2 more joined": crowd,
	} {
		require.Equal(t, want, whatChanged(&before, now))
	}
	require.Equal(t, "b waited for no longer", whatChanged(&picture{State: before.State, Members: before.Members, Blockers: []blocker{{ID: "b"}}}, before))
	require.Equal(t, "first look", whatChanged(nil, before))
}

func TestWhatIsReservedIsToldInWords(t *testing.T) {
	for _, c := range []struct {
		before, now []string
		want        string
	}{
		{nil, nil, "nothing has moved"},
		{[]string{"a"}, []string{"a"}, "nothing has moved"},
		{nil, []string{"a"}, "a left for a restart, and what it holds is reserved"},
		{[]string{"a", "b"}, []string{"b", "c"}, "c left for a restart, and what it holds is reserved; a back from a restart"},
	} {
		require.Equal(t, c.want, whatIsReserved(c.before, c.now))
	}
}

// The dumb twin of strip: a column has the colour of the instance that holds the index at its middle.
func TestStripDrawsWhoHoldsWhat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := picture{}
		end := 0
		for n := range rapid.IntRange(0, 12).Draw(t, "members") {
			m := member{ID: fmt.Sprint(n)}
			for range rapid.IntRange(1, 3).Draw(t, "runs") {
				from := end + rapid.IntRange(0, 2).Draw(t, "gap")
				end = from + rapid.SampledFrom([]int{1, 2, 5, 40, 1 << 20}).Draw(t, "run")
				m.holds = append(m.holds, span{from, end})
			}
			p.Members = append(p.Members, m)
		}
		p.State.Total = end + rapid.IntRange(0, 3).Draw(t, "more")
		new(colors).paint(p.Members)
		line := strip(p)
		require.Len(t, line, min(p.State.Total, columns))
		for i := range line {
			middle := (2*i + 1) * p.State.Total / (2 * len(line))
			want := byte(nobody)
			for _, m := range p.Members {
				for _, s := range m.holds {
					if middle >= s.from && middle < s.to {
						want = '0' + byte(*m.Color)
					}
				}
			}
			require.Equal(t, string(want), string(line[i]), "column %d of %q", i, line)
		}
	})
}

func TestColorsStayWithTheirInstance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c colors
		had := map[string]int{}
		for range 30 {
			ids := rapid.SliceOfNDistinct(rapid.IntRange(0, 20), 0, hues, rapid.ID).Draw(t, "members")
			var members []member
			fresh := 0
			for _, id := range ids {
				members = append(members, member{ID: fmt.Sprint("node", id)})
				if _, known := had[members[len(members)-1].ID]; !known {
					fresh++
				}
			}
			c.paint(members)
			used := map[int]bool{}
			for _, m := range members {
				if was, known := had[m.ID]; known {
					require.Equal(t, was, *m.Color)
				}
				had[m.ID] = *m.Color
				used[*m.Color] = true
			}
			if fresh == len(members) {
				require.Len(t, used, len(members), "each has a colour of its own, as long as there are")
			}
		}
	})
}

func TestColorsThatAreRememberedAreBounded(t *testing.T) {
	var c colors
	stays := member{ID: "stays"}
	for n := range 3 * mostColors {
		members := []member{{ID: fmt.Sprint(n)}, stays}
		c.paint(members)
		require.Equal(t, c.of["stays"], *members[1].Color)
		require.LessOrEqual(t, len(c.of), mostColors)
	}
}
