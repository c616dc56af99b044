//go:build linux && faults

package faults_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stint is what is known for sure of one run: that this instance held a place from
// from to until.
//
// It looked at its state, which had a place, at some moment before by of its first
// act and after at of its last one. After that it may have gone on, up to the deadline
// that the last look has returned, until its function returned: the library has to
// wait for that. Of one that was killed nothing is counted after its last look.
//
// That is what exclusive mode promises: who looks at its state, and finds a place,
// holds it alone at that moment; and until its function has returned, or its deadline
// has passed. It does not promise that what follows from a look follows at once: a
// process may be stopped between the look and the deed, for ever so long, and the
// deed then comes late. These are counted as late here, and only a fence refuses them.
type stint struct {
	id                    string
	life                  int64
	run                   int
	index, workers, total int
	generations           map[int64]bool
	from, until           time.Duration
	last                  deed // the last act
	acts                  int

	// Line numbers: of the beginning, which is before the first look; of the first
	// act, the last one, and the one before that.
	begun, first, latest, before int
}

func (s *stint) String() string {
	return fmt.Sprintf("%s (life %d, run %d) held %d+%d of %d from %v to %v, generations %v",
		s.id, s.life, s.run, s.index, s.workers, s.total, s.from, s.until, s.generations)
}

// stintsOf returns the stints in the order in which they began.
func stintsOf(t *testing.T, deeds []deed) []*stint {
	t.Helper()
	type key struct {
		id   string
		life int64
		run  int
	}
	runs := make(map[key]*stint)
	var all []*stint
	for n, d := range deeds {
		k := key{d.id, d.life, d.run}
		s := runs[k]
		switch d.what {
		case begin:
			runs[k] = &stint{id: d.id, life: d.life, run: d.run, generations: make(map[int64]bool), begun: n}
		case acts:
			if s.acts == 0 {
				s.index, s.workers, s.total, s.from, s.first = d.index, d.workers, d.total, min(d.by, d.deadline), n
				all = append(all, s)
			}
			require.Equal(t, []int{s.index, s.workers, s.total}, []int{d.index, d.workers, d.total},
				"one run of a function under two places: %v", s)
			s.acts++
			s.generations[d.generation] = true
			s.before, s.latest = s.latest, n
			s.last, s.until = d, max(s.from, d.at)
		case end:
			if s.acts > 0 {
				s.until = max(s.until, min(d.at, s.last.deadline))
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *stint) int { return cmp.Compare(a.from, b.from) })
	return all
}

// apart reports whether two places can be held at the same time: keys are what must
// be exclusive, and with another total an index owns other keys.
func (s *stint) apart(o *stint) bool {
	return s.total == o.total && (s.index+s.workers <= o.index || o.index+o.workers <= s.index)
}

// verdict is what a checker finds.
type verdict struct {
	overlaps, late []string
	// idle is the longest time during which nobody held a place for sure, and
	// idleFrom when it began.
	idle, idleFrom time.Duration
}

// judgeStints compares all stints with one another, by the clock and, without any
// clock, by the order of the lines.
func judgeStints(all []*stint) (v verdict) {
	var open []*stint
	var covered time.Duration
	for n, s := range all {
		if n > 0 && s.from-covered > v.idle {
			v.idle, v.idleFrom = s.from-covered, covered
		}
		covered = max(covered, s.until)
		// One that began by the order before it did by the clock, or acted late,
		// is compared for a while longer.
		const linger = time.Minute
		open = slices.DeleteFunc(open, func(o *stint) bool { return o.until+linger < s.from })
		for _, o := range open {
			if s.apart(o) {
				continue
			}
			switch {
			case s.from < o.until:
				v.overlaps = append(v.overlaps, fmt.Sprintf("%v\n%v, %v at the same time", o, s, min(s.until, o.until)-s.from))
			case inTurn(o, s) || inTurn(s, o):
				v.overlaps = append(v.overlaps, fmt.Sprintf("%v\n%v, by the order of their lines", o, s))
			case o.latest > s.first && o.last.at <= s.from:
				v.late = append(v.late, fmt.Sprintf("%v\n%v", o, s))
			}
		}
		open = append(open, s)
	}
	return v
}

// inTurn reports whether the order of the lines proves that two stints overlap: a has
// acted before b began; b has acted; and after that a has written a line, then looked
// again, and written another one.
func inTurn(a, b *stint) bool {
	return a.first < b.begun && a.acts > 1 && a.before > b.first
}

// planted makes a run that acts each millisecond from from to to, and returns at returns.
func planted(id string, index, total int, from, to, returns, deadline time.Duration) (deeds []deed) {
	d := deed{id: id, index: index, workers: 1, total: total, deadline: deadline}
	add := func(what string, at time.Duration) {
		d.what, d.at, d.by = what, at, at
		deeds = append(deeds, d)
	}
	add(begin, from)
	for at := from; at <= to; at += ms {
		add(acts, at)
	}
	if returns > 0 {
		add(end, returns)
	}
	return deeds
}

const ms = time.Millisecond

// inOrder mixes runs by the clock.
func inOrder(runs ...[]deed) []deed {
	all := slices.Concat(runs...)
	slices.SortStableFunc(all, func(a, b deed) int { return cmp.Compare(a.at, b.at) })
	return all
}

// TestCheckerFindsWhatIsPlanted is about the checker alone.
func TestCheckerFindsWhatIsPlanted(t *testing.T) {
	judge := func(runs ...[]deed) verdict { return judgeStints(stintsOf(t, inOrder(runs...))) }
	a := planted("a", 0, 2, 10*ms, 20*ms, 30*ms, time.Hour)
	for _, fine := range [][]deed{
		planted("b", 1, 2, 15*ms, 20*ms, 30*ms, time.Hour), // beside it
		planted("b", 0, 2, 31*ms, 40*ms, 50*ms, time.Hour), // after it
		planted("b", 2, 3, 31*ms, 40*ms, 50*ms, time.Hour),
	} {
		v := judge(a, fine)
		require.Empty(t, append(v.overlaps, v.late...))
	}
	for name, wrong := range map[string][]deed{
		"the same index":             planted("b", 0, 2, 15*ms, 18*ms, 19*ms, time.Hour),
		"another total":              planted("b", 2, 3, 15*ms, 18*ms, 19*ms, time.Hour),
		"another life of its own":    planted("a'", 0, 2, 15*ms, 18*ms, 19*ms, time.Hour),
		"before the other has ended": planted("b", 0, 2, 25*ms, 40*ms, 50*ms, time.Hour),
	} {
		require.Len(t, judge(a, wrong).overlaps, 1, name)
	}
	frozen := planted("a", 0, 2, 10*ms, 20*ms, 90*ms, 40*ms)
	require.Len(t, judge(frozen, planted("b", 0, 2, 39*ms, 50*ms, 60*ms, time.Hour)).overlaps, 1, "before its deadline")
	require.Empty(t, judge(frozen, planted("b", 0, 2, 41*ms, 50*ms, 60*ms, time.Hour)).overlaps, "it may be at work yet, and does not count")
	killed := planted("a", 0, 2, 10*ms, 20*ms, 0, time.Hour)
	require.Empty(t, judge(killed, planted("b", 0, 2, 21*ms, 50*ms, 60*ms, time.Hour)).overlaps)

	// Clocks may say what they like.
	order := append(planted("a", 0, 2, 10*ms, 12*ms, 0, 12*ms), planted("b", 0, 2, 50*ms, 52*ms, 0, time.Hour)...)
	require.Empty(t, judgeStints(stintsOf(t, order)).overlaps)
	order = append(order, deed{what: acts, id: "a", workers: 1, total: 2, at: 12 * ms, by: 12 * ms, deadline: 12 * ms})
	late := judgeStints(stintsOf(t, order))
	require.Empty(t, late.overlaps, "it may have looked before")
	require.Len(t, late.late, 1)
	order = append(order, order[len(order)-1])
	require.Len(t, judgeStints(stintsOf(t, order)).overlaps, 1, "now it has looked afterwards")

	idle := judge(a, planted("b", 0, 1, 80*ms, 90*ms, 100*ms, time.Hour))
	require.Equal(t, 50*ms, idle.idle)
	require.Equal(t, 30*ms, idle.idleFrom)
}
