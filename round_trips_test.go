package libcluster_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

const roundTrip = 200 * time.Millisecond

// distant puts a line between the instances and the registry. A request takes half a round trip
// there, and its answer half a round trip back, which is when the others are told, too: a watch
// needs no request.
func (b *bubble) distant() {
	b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
		if call.Op != libclustertest.OpNext && call.Op != libclustertest.OpSurvey {
			time.Sleep(roundTrip)
		}
		return call.Send(ctx)
	})
}

// trips waits for a condition, and returns for how many round trips.
func (b *bubble) trips(is func() bool) int {
	begin := time.Now()
	for !is() {
		wait(time.Millisecond)
	}
	return int(time.Since(begin).Round(roundTrip) / roundTrip)
}

// In mode direct a newcomer's record tells all that there is to tell. In the others the
// coordinator's plan does. Where instances have to stop they acknowledge that, and another plan follows.
func TestAPlanTakesARoundTripAndItsAcknowledgementsTwoMore(t *testing.T) {
	for mode, trips := range map[libcluster.Mode]int{
		libcluster.ModeDirect: 0, libcluster.ModePlanned: 1, libcluster.ModeExclusive: 3, libcluster.ModeCooperative: 3,
	} {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				in, last := func(c *libcluster.Config) { c.Mode = mode }, func(s libcluster.State) bool { return s.Total == 4 }
				if mode == libcluster.ModeCooperative {
					in, last = cooperative(12), func(s libcluster.State) bool { return len(slices.Collect(s.Held())) == 3 }
				}
				b.distant()
				for i := range 3 {
					b.member(fmt.Sprint(i), in)
				}
				wait(time.Minute)
				newcomer := b.instance("z", in)
				go newcomer.Join(context.Background())
				b.trips(func() bool { return b.Holds(simulated, "z") })
				require.Equal(t, trips, b.trips(func() bool {
					return !slices.ContainsFunc(b.all, func(c *libcluster.Cluster) bool { return !last(c.State()) })
				}))
			})
		})
	}
}

// One is for the acknowledgement, and one for the plan that grants the partition.
func TestAPartitionThatMovesIdlesForTwoRoundTrips(t *testing.T) {
	const partitions = 12
	inLedger(t, func(l *ledger) {
		l.distant()
		for i := range 3 {
			l.begins(fmt.Sprint(i), partitions)
		}
		wait(time.Minute)
		l.begins("z", partitions)
		allRun := func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.holds) == partitions
		}
		l.trips(func() bool { return !allRun() })
		require.Equal(t, 2, l.trips(allRun))
		require.Equal(t, 3, l.held()["z"])
	})
}
