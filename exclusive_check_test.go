package libcluster_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// acting is a time, from before to, during which one instance acted on one range.
type acting struct {
	instance              string
	index, workers, total int
	generation            int64
	from, to              int64
}

func (a acting) String() string {
	return fmt.Sprintf("%s on %d+%d/%d in %d from %d to %d", a.instance, a.index, a.workers, a.total, a.generation, a.from, a.to)
}

// excludes tells whether two may never act at the same time: both hold a key then,
// if the ranges overlap or, whatever the ranges, if the totals differ.
func (a acting) excludes(b acting) bool {
	return a.instance != b.instance &&
		(a.total != b.total || a.index < b.index+b.workers && b.index < a.index+a.workers)
}

// findOverlap returns two of different instances that acted at the same time and
// must not have, if there are any. It sweeps over time: who acts at any one time are
// few, or two of them are found.
func findOverlap(all []acting) (first, second acting, found bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(a acting) bool { return a.from >= a.to })
	slices.SortFunc(all, func(a, b acting) int { return cmp.Compare(a.from, b.from) })
	var present []acting
	for _, a := range all {
		present = slices.DeleteFunc(present, func(b acting) bool { return b.to <= a.from })
		for _, b := range present {
			if a.excludes(b) {
				return b, a, true
			}
		}
		present = append(present, a)
	}
	return first, second, false
}

// isLike reports whether both are of one instance on the same, at whatever time.
func (a acting) isLike(b acting) bool {
	b.from, b.to = a.from, a.to
	return a == b
}

// findStaleToken returns two of different instances on the same key, of which the
// later has no greater generation, if there are any: what is guarded by the generation
// as a token would refuse the later.
func findStaleToken(all []acting) (first, second acting, found bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(a acting) bool { return a.from >= a.to })
	slices.SortFunc(all, func(a, b acting) int { return cmp.Compare(a.from, b.from) })
	var newest []acting // of the greatest generation so far
	for i, a := range all {
		before := all[:i]
		switch {
		case len(newest) == 0 || a.generation > newest[0].generation:
			newest = []acting{a}
			continue
		case a.generation == newest[0].generation: // as nearly always
			before = newest
			if !slices.ContainsFunc(newest, a.isLike) {
				newest = append(newest, a)
			}
		}
		for _, b := range before {
			if a.excludes(b) && a.generation <= b.generation {
				return b, a, true
			}
		}
	}
	return first, second, false
}

func TestTheCheckerFindsWhoOverlaps(t *testing.T) {
	a := acting{"a", 0, 2, 4, 7, 100, 200}
	for _, c := range []struct {
		why  string
		b    acting
		want bool
	}{
		{"the same range at the same time", acting{"b", 0, 2, 4, 8, 100, 200}, true},
		{"a moment only", acting{"b", 0, 2, 4, 8, 199, 300}, true},
		{"within", acting{"b", 1, 1, 4, 8, 150, 151}, true},
		{"around", acting{"b", 0, 4, 4, 8, 0, 1000}, true},
		{"one worker only", acting{"b", 1, 3, 4, 8, 0, 1000}, true},
		{"another total, another range", acting{"b", 2, 2, 5, 8, 150, 160}, true},
		{"another range", acting{"b", 2, 2, 4, 8, 100, 200}, false},
		{"later", acting{"b", 0, 2, 4, 8, 200, 300}, false},
		{"earlier", acting{"b", 0, 2, 5, 8, 50, 100}, false},
		{"never", acting{"b", 0, 2, 4, 8, 150, 150}, false},
		{"itself", acting{"a", 0, 3, 5, 8, 100, 200}, false},
	} {
		for _, both := range [][]acting{{a, c.b}, {c.b, a}} {
			first, second, found := findOverlap(both)
			require.Equal(t, c.want, found, c.why)
			if found {
				require.ElementsMatch(t, both, []acting{first, second}, c.why)
			}
		}
	}
}

func TestTheCheckerFindsOneOverlapAmongMany(t *testing.T) {
	var all []acting
	for n := range 20_000 {
		for i := range 3 { // three share the total, one generation after another
			all = append(all, acting{string(rune('a' + i)), i, 1, 3 + n%2, int64(n + 1), int64(10 * n), int64(10*n + 9 + n%2)})
		}
	}
	_, _, found := findOverlap(all)
	require.False(t, found)
	_, _, found = findStaleToken(all)
	require.False(t, found)
	planted := acting{"d", 3, 1, 4, 20_000, 55_505, 55_506}
	_, second, found := findOverlap(append(all, planted))
	require.True(t, found, "the total is 3 then")
	require.Equal(t, planted, second)
}

func TestTheCheckerFindsStaleTokens(t *testing.T) {
	a := acting{"a", 0, 2, 4, 7, 100, 200}
	for _, c := range []struct {
		why  string
		b    acting
		want bool
	}{
		{"greater", acting{"b", 0, 2, 4, 8, 300, 400}, false},
		{"the same", acting{"b", 0, 2, 4, 7, 300, 400}, true},
		{"smaller", acting{"b", 1, 1, 4, 6, 300, 400}, true},
		{"smaller, of another total", acting{"b", 2, 2, 5, 6, 300, 400}, true},
		{"the same, of another range", acting{"b", 2, 2, 4, 7, 100, 200}, false},
		{"smaller, and earlier", acting{"b", 0, 2, 4, 6, 0, 100}, false},
	} {
		_, _, found := findStaleToken([]acting{c.b, a})
		require.Equal(t, c.want, found, c.why)
	}
	b, c := acting{"b", 2, 2, 4, 7, 100, 200}, acting{"c", 2, 2, 4, 7, 300, 400}
	_, _, found := findStaleToken([]acting{a, b, c})
	require.True(t, found, "that of the second in its generation")
}
