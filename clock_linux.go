package libcluster

import (
	"time"

	"golang.org/x/sys/unix"
)

// timeAsleep is for how long the machine has slept since it was started, up to an
// unknown constant: CLOCK_BOOTTIME goes on meanwhile, CLOCK_MONOTONIC does not.
func timeAsleep() time.Duration {
	for {
		before, boot, after := read(unix.CLOCK_MONOTONIC), read(unix.CLOCK_BOOTTIME), read(unix.CLOCK_MONOTONIC)
		if after-before < shortestSleep/2 { // the process has not stood still in between
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
