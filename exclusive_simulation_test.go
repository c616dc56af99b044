package libcluster_test

import (
	"flag"
	"testing"

	"github.com/libcluster/libcluster/internal/simulator"
)

var (
	exclusiveSeed  = flag.Uint64("exclusive-seed", 0, "simulate this seed of exclusive mode only, with all that it notes")
	exclusiveTimes = flag.Int("exclusive-times", 300, "how often to simulate the one seed: which of two goroutines runs first is not the seed's")
	exclusiveSeeds = flag.Int("exclusive-seeds", defaultExclusiveSeeds, "how many seeds of exclusive mode to simulate")
	exclusiveFirst = flag.Uint64("exclusive-first", 1, "the first of the seeds of exclusive mode to simulate")
)

// It takes all processors, so it does not run beside tests on a real etcd.
func TestNeverTwoAtOnceWhateverHappens(t *testing.T) {
	simulator.Seeds{
		First: *exclusiveFirst, Count: *exclusiveSeeds, One: *exclusiveSeed, Times: *exclusiveTimes,
		Found: "testdata/exclusive_seeds", Enough: 2000, Wants: append(exclusiveFaults(), actedBy(exclusiveStyles())...), Again: "go test -run NeverTwo . -exclusive-seed",
	}.Run(t, func(t *testing.T, seed uint64) *simulator.World {
		return simulate(t, func() *world { return newWorld(seed, *exclusiveSeed > 0) }).World
	})
}
