package libcluster_test

import (
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/simulator"
)

var (
	cooperativeSeed  = flag.Uint64("cooperative-seed", 0, "simulate this seed of cooperative mode only, with all that it notes")
	cooperativeTimes = flag.Int("cooperative-times", 300, "how often to simulate the one seed: which of two goroutines runs first is not the seed's")
	cooperativeSeeds = flag.Int("cooperative-seeds", defaultExclusiveSeeds, "how many seeds of cooperative mode to simulate")
	cooperativeFirst = flag.Uint64("cooperative-first", 1, "the first of the seeds of cooperative mode to simulate")
)

// The world, its faults and its steps are those of exclusive mode.
func TestNeverTwoOnOnePartitionWhateverHappens(t *testing.T) {
	simulator.Seeds{
		First: *cooperativeFirst, Count: *cooperativeSeeds, One: *cooperativeSeed, Times: *cooperativeTimes,
		Found: "testdata/cooperative_seeds", Enough: 2000, Wants: cooperativeFaults(), Again: "go test -run NeverTwoOnOne . -cooperative-seed",
	}.Run(t, func(t *testing.T, seed uint64) *simulator.World {
		return simulate(t, func() *world { return newCooperativeWorld(seed) }).World
	})
}

// newCooperativeWorld makes a world with so few partitions that everything collides.
func newCooperativeWorld(seed uint64) *world {
	w := newWorld(seed, *cooperativeSeed > 0)
	w.scheme = scheme{libcluster.ModeCooperative, 4 + w.Steps.IntN(37)}
	return w
}

// addOther starts an instance that does not fit: of another mode, or another number of
// partitions. If nobody else is there it finds a cluster of its own, and the others do not
// fit. Those that it does not know may act for as long as any of them.
func (w *world) addOther() {
	w.Happened("another scheme")
	of := scheme{mode: libcluster.ModeExclusive}
	if w.Steps.IntN(2) == 0 {
		of = scheme{libcluster.ModeCooperative, w.partitions + 1}
	}
	w.addAppOf(of, string(rune('a'+w.Steps.IntN(7)))).join(w.Draw(10*time.Second) + time.Millisecond)
}

func cooperativeFaults() []string {
	kinds := append(actedBy(cooperativeStyles()), slices.DeleteFunc(exclusiveFaults(), func(kind string) bool { return kind == "new generation, same places" })...)
	return append(kinds, "function", "revoked", "lost", "partition moves", "partly released", "granted anew before it has stopped", "another scheme",
		"fence for what is being stopped")
}
