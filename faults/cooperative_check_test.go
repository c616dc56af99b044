//go:build linux && faults

package faults_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// judgePartitions compares the stints of each partition with one another. It also finds
// tokens that have not grown.
func judgePartitions(all []*stint) (v verdict, sameTokens []string) {
	of := make(map[int][]*stint)
	for _, s := range all {
		of[s.index] = append(of[s.index], s)
	}
	for _, p := range slices.Sorted(maps.Keys(of)) {
		one := judgeStints(of[p])
		v.overlaps, v.late = append(v.overlaps, one.overlaps...), append(v.late, one.late...)
		if one.idle > v.idle {
			v.idle, v.idleFrom = one.idle, one.idleFrom
		}
		for n, s := range of[p][1:] {
			if before := of[p][n]; s.last.generation <= before.last.generation {
				sameTokens = append(sameTokens, fmt.Sprintf("%v\n%v: the token has not grown", before, s))
			}
		}
	}
	return v, sameTokens
}

// stops is why partitions were stopped.
type stops struct {
	counts   map[string]int
	needless []string
}

// judgeStops finds the partitions that were stopped though they did not move, and their
// processes were neither fenced nor told to leave. Without a history that is what the
// processes themselves have noticed.
func judgeStops(deeds []deed, plans history) stops {
	type key struct {
		life int64
		run  int
	}
	tokens := make(map[key]int64)
	s := stops{counts: make(map[string]int)}
	for _, d := range deeds {
		k, wrong := key{d.life, d.run}, ""
		switch d.what {
		case begin:
			tokens[k] = d.generation
			continue
		case kept:
			wrong = "the state has left it the partition"
		case unasked:
			wrong = "for no reason that there can be"
		case moved:
			if plans != nil {
				wrong = plans.stayed(d.index, d.id, tokens[k], d.generation)
			}
		case fenced, left:
		default:
			continue
		}
		s.counts[d.what]++
		if wrong != "" {
			s.needless = append(s.needless, fmt.Sprintf("%s (life %d, run %d), which had partition %d by the plan of generation %d, stops it at %v, "+
				"in generation %d: %s", d.id, d.life, d.run, d.index, tokens[k], d.at, d.generation, wrong))
		}
	}
	return s
}

// TestCheckerFindsWhatIsPlantedInPartitions is about the checker alone.
func TestCheckerFindsWhatIsPlantedInPartitions(t *testing.T) {
	run := func(id string, partition int, token int64, from, to, returns time.Duration) []deed {
		deeds := planted(id, partition, 4, from, to, returns, time.Hour)
		for i := range deeds {
			deeds[i].generation = token
		}
		return deeds
	}
	judge := func(runs ...[]deed) (verdict, []string) { return judgePartitions(stintsOf(t, inOrder(runs...))) }
	a := run("a", 1, 5, 10*ms, 20*ms, 30*ms)
	v, same := judge(a, run("b", 1, 6, 31*ms, 40*ms, 50*ms), run("c", 2, 5, 15*ms, 25*ms, 30*ms))
	require.Empty(t, v.overlaps, "others may have other partitions")
	require.Empty(t, same)
	require.Equal(t, ms, v.idle)
	v, _ = judge(a, run("b", 1, 6, 29*ms, 40*ms, 50*ms))
	require.Len(t, v.overlaps, 1, "before the function has returned")
	v, _ = judge(a, run("b", 1, 6, 15*ms, 18*ms, 0))
	require.Len(t, v.overlaps, 1)
	_, same = judge(a, run("b", 1, 5, 31*ms, 40*ms, 50*ms))
	require.Len(t, same, 1, "the same token again")

	// a has partitions 0 to 3, and is to release 3; then b has it.
	var plans history
	for _, text := range []string{
		"cooperative\tcommit\t5\t4\nA\t1000\t1\ta\t\t0-3\t\n",
		"cooperative\tprepare\t8\t4\nA\t1000\t1\ta\t\t0,1-2\t3\nB\t1000\t1\tb\t\t\t\n",
		"cooperative\tcommit\t9\t4\nA\t1000\t1\ta\t\t0-2\t\nB\t1000\t1\tb\t\t3\t\n",
	} {
		plans = append(plans, readPlan(t, text))
	}
	require.Equal(t, map[int]keeper{0: {"A", "a"}, 1: {"A", "a"}, 2: {"A", "a"}, 3: {"B", "b"}}, plans[2].keepers)
	stop := func(partition int, token int64, why string, heard int64) []deed {
		d := deed{what: begin, id: "a", index: partition, generation: token}
		e := d
		e.what, e.generation = why, heard
		return []deed{d, e}
	}
	for name, needful := range map[string][]deed{
		"a plan has had it released": stop(3, 5, moved, 8),
		"it has heard of two":        stop(3, 5, moved, 9),
		"the place was lost":         stop(0, 5, fenced, 5),
		"it leaves":                  stop(0, 5, left, 9),
	} {
		require.Empty(t, judgeStops(needful, plans).needless, name)
	}
	for name, needless := range map[string][]deed{
		"another partition moves":          stop(2, 5, moved, 9),
		"before it has heard that it does": stop(3, 5, moved, 5),
		"the state says otherwise":         stop(3, 5, kept, 9),
		"for no reason":                    stop(3, 5, unasked, 9),
		"it never had it":                  stop(3, 9, moved, 9),
		"by no plan":                       stop(3, 6, moved, 9),
	} {
		require.Len(t, judgeStops(needless, plans).needless, 1, name)
	}
	require.Empty(t, judgeStops(stop(2, 5, moved, 9), nil).needless, "nobody remembers the plans")
	require.Len(t, judgeStops(stop(2, 5, kept, 9), nil).needless, 1)
}
