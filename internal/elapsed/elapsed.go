// Package elapsed says how long ago something was, to tests of stores that may each go by a
// clock of their own.
package elapsed

import "time"

// Since returns how much time has passed since t by the clock by which more has: the one that
// nobody sets, or the one on the wall. A database ends leases by the one on the wall, and what
// keeps a machine's time may set that forward at any moment.
func Since(t time.Time) time.Duration {
	return max(time.Since(t), time.Now().Round(0).Sub(t))
}
