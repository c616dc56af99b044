//go:build !linux

package libcluster

import "time"

// secondClock is the wall clock: it goes on while the machine sleeps.
func secondClock() time.Duration { return time.Duration(time.Now().UnixNano()) }
