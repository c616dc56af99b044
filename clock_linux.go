package libcluster

import (
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// timeAsleep is for how long the machine has slept since it was started, up to an
// unknown constant: CLOCK_BOOTTIME goes on meanwhile, CLOCK_MONOTONIC does not.
func timeAsleep() time.Duration { return sleeps.look(read) }

var sleeps = newSleepMeter()

// sleepMeter tells time asleep. Any goroutine may use it.
type sleepMeter struct {
	last atomic.Int64 // what three readings have found last: never too much
}

func newSleepMeter() *sleepMeter {
	m := &sleepMeter{}
	m.last.Store(math.MinInt64) // where clocks begin elsewhere it may be negative
	return m
}

// atOnce is how long two readings may take that count as one.
const atOnce = time.Millisecond

// look reads the clocks. Two readings show too much if the process has stood still in between,
// and never too little. If they show no more than was known, the machine has not slept
// since. Otherwise a third one tells which it was.
func (m *sleepMeter) look(read func(clock int32) time.Duration) time.Duration {
	for {
		before, boot := read(unix.CLOCK_MONOTONIC), read(unix.CLOCK_BOOTTIME)
		if asleep := boot - before; asleep < time.Duration(m.last.Load())+atOnce {
			return asleep
		}
		if after := read(unix.CLOCK_MONOTONIC); after-before < shortestSleep/2 {
			m.last.Store(int64(boot - after))
			return boot - after
		}
	}
}

func read(clock int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0 // a kernel before 2.6.39 has no CLOCK_BOOTTIME: the monotonic clock alone
	}
	return time.Duration(ts.Nano())
}
