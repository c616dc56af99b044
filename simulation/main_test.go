package simulation

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

var (
	oneSeed   = flag.Uint64("seed", 0, "simulate this seed only, with all that it notes")
	oneTimes  = flag.Int("times", 300, "how often to simulate the one seed: which of two goroutines runs first is not the seed's")
	seedCount = flag.Int("seeds", defaultSeeds, "how many seeds to simulate")
	firstSeed = flag.Uint64("first", 1, "the first of the seeds to simulate")
	update    = flag.Bool("update", false, "rewrite what the stories in testdata expect")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
