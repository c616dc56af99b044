package libcluster

import (
	"time"

	"golang.org/x/sys/unix"
)

// secondClock goes on while the machine sleeps, unlike Go's monotonic clock.
func secondClock() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // a kernel before 2.6.39: the monotonic clock alone
	}
	return time.Duration(ts.Nano())
}
