package libcluster_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	exclusiveSeed  = flag.Uint64("exclusive-seed", 0, "simulate this seed of exclusive mode only, many times")
	exclusiveSeeds = flag.Int("exclusive-seeds", defaultExclusiveSeeds, "how many seeds of exclusive mode to simulate")
	exclusiveFirst = flag.Uint64("exclusive-first", 1, "the first of the seeds of exclusive mode to simulate")
)

const (
	// exclusiveReplays is how often one seed is run that was asked for: what it meets
	// is of the seed, but how it goes on also depends on chance.
	exclusiveReplays = 300
	// enoughSeeds for every fault to have happened.
	enoughSeeds = 2000
	// stuckAfter is when a seed that does not end is named: time in a bubble stands
	// still while anything in it runs.
	stuckAfter = 30 * time.Second
)

func TestNeverTwoAtOnceWhateverHappens(t *testing.T) {
	var (
		next   atomic.Int64
		mu     sync.Mutex // guards total and ran
		total  = map[string]int{}
		ran    int
		failed atomic.Int32
		start  = time.Now()
	)
	seeds := *exclusiveSeeds
	if *exclusiveSeed > 0 {
		seeds = exclusiveReplays
	}
	t.Run("seeds", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("worker ", worker), func(t *testing.T) {
				t.Parallel()
				for n := next.Add(1) - 1; n < int64(seeds) && failed.Load() < 3; n = next.Add(1) - 1 {
					seed := *exclusiveFirst + uint64(n)
					if *exclusiveSeed > 0 {
						seed = *exclusiveSeed
					}
					w := simulateNamed(t, seed)
					if w.broken != "" {
						failed.Add(1)
						t.Errorf("seed %d: %s\n%s\nagain: go test -run NeverTwo -exclusive-seed %d .", seed, w.broken, w.report(), seed)
					}
					mu.Lock()
					ran++
					for kind, n := range w.counts {
						total[kind] += n
					}
					total["interval of acting"] += len(w.acts)
					mu.Unlock()
				}
			})
		}
	})
	took := time.Since(start)
	t.Logf("%d seeds, %d steps, %d intervals of acting in %v: %.0f steps/s",
		ran, total["step"], total["interval of acting"], took.Round(time.Millisecond), float64(total["step"])/took.Seconds())
	for _, kind := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%10d %s", total[kind], kind)
	}
	if *exclusiveSeed > 0 || seeds < enoughSeeds || t.Failed() {
		return
	}
	for _, kind := range exclusiveFaults() {
		require.Positive(t, total[kind], "this has never happened: %s", kind)
	}
}

// simulateNamed names the seed when it does not end, or ends with a panic.
func simulateNamed(t *testing.T, seed uint64) *world {
	alarm := time.AfterFunc(stuckAfter, func() { fmt.Fprintf(os.Stderr, "seed %d has not ended after %v\n", seed, stuckAfter) })
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
