package simulator

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// stuck is when a seed that does not end is named: time in a bubble stands still
	// while anything in it runs.
	stuck = 30 * time.Second
	// mostFailures is how many seeds may fail before the rest is left out.
	mostFailures = 3
)

// Seeds are those to simulate.
type Seeds struct {
	First uint64 // the first of them
	Count int
	Found string // names a file of seeds that have once failed, which are simulated first
	One   uint64 // this one only; 0: all
	Times int    // how often to simulate that one

	Enough int      // of so many seeds
	Wants  []string // all this must have happened
	Again  string   // the command that simulates one again, but for the seed
}

// Run simulates them all, several at a time, and logs what has happened and how
// often. It returns that, too.
func (s Seeds) Run(t *testing.T, simulate func(t *testing.T, seed uint64) *World) map[string]int {
	var (
		start = time.Now()

		mu     sync.Mutex // guards what follows
		total  = map[string]int{}
		ran    int
		failed int

		histories = map[string]int{} // of the one seed: how often each
	)
	found, count := s.found(t), s.Count
	count += len(found)
	if s.One > 0 {
		count = s.Times
	}
	next := func() (seed uint64, more bool) {
		mu.Lock()
		defer mu.Unlock()
		if ran == count || failed >= mostFailures {
			return 0, false
		}
		ran++
		if s.One > 0 {
			return s.One, true
		}
		if ran <= len(found) {
			return found[ran-1], true
		}
		return s.First + uint64(ran-len(found)-1), true
	}
	t.Run("seeds", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("worker ", worker), func(t *testing.T) {
				t.Parallel()
				for seed, more := next(); more; seed, more = next() {
					w := named(t, seed, simulate)
					mu.Lock()
					if w.Broken() != "" {
						failed++
						t.Errorf("seed %d: %s\n%s\nagain: %s %d", seed, w.Broken(), w.Report(), s.Again, seed)
					}
					if s.One > 0 {
						histories[w.History()]++
					}
					for kind, n := range w.counts {
						total[kind] += n
					}
					mu.Unlock()
				}
			})
		}
	})
	took := time.Since(start)
	t.Logf("%d seeds, %d steps in %v: %.0f steps/s", ran, total["step"], took.Round(time.Millisecond), float64(total["step"])/took.Seconds())
	if s.One > 0 {
		t.Logf("seed %d, %d times: %d different histories", s.One, ran, len(histories))
		for _, history := range slices.Sorted(maps.Keys(histories)) {
			t.Logf("%10d history %s", histories[history], history)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%10d %s", total[kind], kind)
	}
	if s.One == 0 && s.Count >= s.Enough && !t.Failed() {
		for _, kind := range s.Wants {
			require.Positive(t, total[kind], "this has never happened: %s", kind)
		}
	}
	return total
}

// found reads the seeds that have once failed: a number at the beginning of a line.
func (s Seeds) found(t *testing.T) (seeds []uint64) {
	if s.Found == "" || s.One > 0 {
		return nil
	}
	text, err := os.ReadFile(s.Found)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] != "#" {
			seed, err := strconv.ParseUint(fields[0], 10, 64)
			require.NoError(t, err, "%s: a line begins with a seed or #", s.Found)
			seeds = append(seeds, seed)
		}
	}
	return seeds
}

// named names the seed when it does not end, or ends with a panic.
func named(t *testing.T, seed uint64, simulate func(t *testing.T, seed uint64) *World) *World {
	alarm := time.AfterFunc(stuck, func() { fmt.Fprintf(os.Stderr, "seed %d has not ended after %v\n", seed, stuck) })
	defer alarm.Stop()
	ended := false
	defer func() {
		if !ended {
			fmt.Fprintf(os.Stderr, "seed %d panics\n", seed)
		}
	}()
	w := simulate(t, seed)
	ended = true
	return w
}
