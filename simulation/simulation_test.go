package simulation

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/simulator"
)

// enough seeds for every fault to have happened.
const enough = 300

func TestPromisesHoldWhateverHappens(t *testing.T) {
	seeds := simulator.Seeds{
		First: *firstSeed, Count: *seedCount, One: *oneSeed, Times: *oneTimes,
		Found: "testdata/seeds", Enough: enough, Wants: faults(), Again: "go test ./simulation -run Promises -seed",
	}
	total := seeds.Run(t, func(t *testing.T, seed uint64) *simulator.World { return simulate(t, seed).World })
	if *oneSeed == 0 && *seedCount >= enough {
		require.Less(t, total["stall"], *seedCount/100+1, "members were fenced without a reason")
	}
}
