package libcluster

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// drained counts what a drain finds.
type drained struct {
	*drain
	slow atomic.Int64
	hung atomic.Pointer[prepare]
}

func newDrained() *drained {
	d := new(drained)
	d.drain = newDrain(func() { d.slow.Add(1) }, func(p prepare) { d.hung.Store(&p) })
	return d
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestADrainFindsThatAnApplicationIsSlowAndThenThatItHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := newDrained(), prepare{7, 70}
		d.begin(p, nil, time.Second, time.Minute)
		pass(time.Second - 1)
		require.Zero(t, d.slowFor.Load())
		pass(1)
		require.EqualValues(t, 70, d.slowFor.Load())
		d.begin(p, nil, time.Second, time.Minute) // the same plan, seen again
		pass(time.Minute)
		require.EqualValues(t, 1, d.slow.Load())
		require.Equal(t, &p, d.hung.Load())
	})
}

func TestADrainThatIsDoneFindsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := newDrained(), prepare{7, 70}
		d.begin(p, nil, time.Second, time.Minute)
		d.say(p, "")
		<-d.unsaid
		pass(time.Hour)
		require.Zero(t, d.slow.Load())
		require.Nil(t, d.hung.Load())
	})
}

func TestADrainForTheNextPlanBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, next := newDrained(), prepare{8, 80}
		d.begin(prepare{7, 70}, nil, time.Second, time.Minute)
		pass(30 * time.Second)
		d.begin(next, nil, time.Second, time.Minute)
		pass(time.Minute - 1)
		require.Nil(t, d.hung.Load())
		require.EqualValues(t, 80, d.slowFor.Load())
		pass(1)
		require.Equal(t, &next, d.hung.Load())
	})
}

// That the application has stopped for one plan says nothing of the next.
func TestADrainIsNotDoneByWhatWasSaidOfAnotherPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, next := newDrained(), prepare{8, 80}
		d.begin(next, nil, time.Second, time.Minute)
		d.say(prepare{7, 70}, "")
		pass(time.Minute)
		require.Equal(t, &next, d.hung.Load())
	})
}

func TestADrainThatHasEndedFindsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDrained()
		d.begin(prepare{7, 70}, nil, time.Second, time.Minute)
		d.end()
		pass(time.Hour)
		require.Zero(t, d.slow.Load())
		require.Nil(t, d.hung.Load())
	})
}

// What the next plan asks to release besides may have as many runs as all that it asks for.
func TestADrainGoesOnWatchingWhatTheNextPlanAsksForToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, first := newDrained(), prepare{7, 70}
		d.begin(first, partitionSet{{0, 1}}, time.Second, time.Minute)
		pass(30 * time.Second)
		d.begin(prepare{8, 80}, partitionSet{{0, 4}}, time.Second, time.Minute)
		d.say(prepare{8, 80}, "0")
		pass(30 * time.Second)
		require.Equal(t, &first, d.hung.Load(), "partition 0 has hung for a minute")
		pass(time.Hour)
		require.Equal(t, &first, d.hung.Load(), "the others have stopped")
	})
}

func TestADrainHangsForEachPartitionByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, last := newDrained(), prepare{9, 90}
		d.begin(prepare{7, 70}, partitionSet{{2, 4}}, time.Second, time.Minute)
		d.say(prepare{7, 70}, "3")
		pass(10 * time.Second)
		d.begin(prepare{8, 80}, partitionSet{{3, 6}}, time.Second, time.Minute)
		d.say(prepare{8, 80}, "4")
		pass(10 * time.Second)
		d.begin(last, partitionSet{{4, 5}, {8, 9}}, time.Second, time.Minute)
		d.say(last, "8")
		pass(50 * time.Second)
		require.Nil(t, d.hung.Load(), "3 and 4 have stopped")
		pass(10 * time.Second)
		require.Equal(t, &last, d.hung.Load())
	})
}

// What is taken over by a plan that asks for something else is not watched any more.
func TestADrainForOtherPartitionsBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, next := newDrained(), prepare{8, 80}
		d.begin(prepare{7, 70}, partitionSet{{0, 4}}, time.Second, time.Minute)
		pass(30 * time.Second)
		d.begin(next, partitionSet{{4, 5}}, time.Second, time.Minute)
		pass(30 * time.Second)
		require.Nil(t, d.hung.Load())
		require.EqualValues(t, 2, d.slow.Load())
		pass(30 * time.Second)
		require.Equal(t, &next, d.hung.Load())
	})
}
