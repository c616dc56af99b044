package simulator

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
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
	count := s.Count
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
		return s.First + uint64(ran-1), true
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
	if s.One == 0 && count >= s.Enough && !t.Failed() {
		for _, kind := range s.Wants {
			require.Positive(t, total[kind], "this has never happened: %s", kind)
		}
	}
	return total
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
