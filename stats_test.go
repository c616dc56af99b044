package libcluster

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHistogramCountsBelowTheFirstBoundThatIsNotLess(t *testing.T) {
	h := newHistogram([]time.Duration{time.Millisecond, time.Second})
	for _, took := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, time.Second, time.Second + 1, time.Hour} {
		h.observe(took)
	}
	require.Equal(t, []uint64{2, 2, 2}, h.Counts)
	require.EqualValues(t, 6, h.Count)
	require.Equal(t, time.Hour+2*time.Second+2*time.Millisecond+2, h.Sum)
}

func TestBoundsOfHistogramsGrow(t *testing.T) {
	for _, bounds := range [][]time.Duration{renewalBounds, handOverBounds} {
		for i := 1; i < len(bounds); i++ {
			require.Less(t, bounds[i-1], bounds[i])
		}
	}
}

// Heartbeats count, and there may be many instances in a process.
func TestCountingAllocatesNothing(t *testing.T) {
	s := newStats()
	trouble := errors.New("no route")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		s.renewed(time.Millisecond)
		s.failed(RegistryRenew, trouble)
		s.rebalanced()
	}))
}

func TestAnswerThatTheRecordIsLostIsNoFailureOfTheRegistry(t *testing.T) {
	s := newStats()
	for _, final := range []error{ErrRecordGone, ErrInstanceTaken, ErrRegistryReset} {
		s.failed(RegistryRenew, fmt.Errorf("%w: so it says", final))
	}
	require.Zero(t, s.snapshot().RegistryErrors[RegistryRenew])
}

func TestHandOverBeginsWhenItIsDueAndIsForgottenWhenNothingIs(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	waits := decision{waiting: []planned{{}}}
	var h handOver
	h.meets(decision{}, false, at(1))
	require.Zero(t, h)
	h.meets(waits, false, at(2))
	h.meets(waits, true, at(3))
	h.meets(decision{next: &plan{committed: true}}, false, at(4))
	require.Equal(t, handOver{at(2), true}, h, "who had vanished was waited for, though the plan names it no more")
	h.meets(decision{}, false, at(5))
	require.Zero(t, h)
}
