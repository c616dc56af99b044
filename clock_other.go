//go:build !linux

package libcluster

import "time"

var started = time.Now()

// timeAsleep is by how much the wall clock has gone on more than the monotonic one.
func timeAsleep() time.Duration {
	now := time.Now()
	return time.Duration(now.UnixNano()) - now.Sub(started)
}
