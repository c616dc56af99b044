package simulation

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// replays is how often one seed is run that was asked for: what it meets is
	// of the seed, but how it goes on also depends on chance.
	replays = 300
	// enough seeds for every fault to have happened.
	enough = 300
	// stuck is when a seed that does not end is named: time in a bubble stands
	// still while anything in it runs.
	stuck = 20 * time.Second
)

func TestPromisesHoldWhateverHappens(t *testing.T) {
	var (
		next   atomic.Int64
		mu     sync.Mutex // guards total
		total  = map[string]int{}
		failed atomic.Int32
		start  = time.Now()
	)
	seeds := *seedCount
	if *oneSeed > 0 {
		seeds = replays
	}
	t.Run("seeds", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("worker ", worker), func(t *testing.T) {
				t.Parallel()
				for n := next.Add(1) - 1; n < int64(seeds) && failed.Load() < 3; n = next.Add(1) - 1 {
					seed := *firstSeed + uint64(n)
					if *oneSeed > 0 {
						seed = *oneSeed
					}
					w := simulateNamed(t, seed)
					if w.broken != "" {
						failed.Add(1)
						t.Errorf("seed %d: %s\n%s\nagain: go test ./simulation -run Promises -seed %d", seed, w.broken, w.report(), seed)
					}
					mu.Lock()
					w.countInto(total)
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("%d seeds in %v", next.Load()-int64(runtime.GOMAXPROCS(0)), time.Since(start).Round(time.Millisecond))
	for _, kind := range sorted(maps.Keys(total)) {
		t.Logf("%10d %s", total[kind], kind)
	}
	if *oneSeed > 0 || seeds < enough {
		return
	}
	for _, kind := range faults() {
		require.Positive(t, total[kind], "this has never happened: %s", kind)
	}
	require.Less(t, total["stall"], seeds/100+1, "members were fenced without a reason")
}

// simulateNamed names the seed when it does not end, or ends with a panic.
func simulateNamed(t *testing.T, seed uint64) *world {
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
