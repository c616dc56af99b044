package libcluster

import "time"

// moment is a reading of the clocks by which a horizon is kept.
//
// Two clocks are read because either alone can stand still: Go's monotonic
// clock stops while a Linux machine sleeps, and the second one (CLOCK_BOOTTIME
// on Linux, the wall clock elsewhere) may be set back. Whichever says that more
// time has passed is believed, which errs towards fencing.
type moment struct {
	mono time.Time
	also time.Duration
}

func now() moment { return moment{time.Now(), secondClock()} }

// since returns how much time has passed from earlier to m, at the most.
func (m moment) since(earlier moment) time.Duration {
	return max(m.mono.Sub(earlier.mono), m.also-earlier.also)
}

// sinceAtLeast returns how much time has passed from earlier to m, at the least:
// for one who waits until another must have stopped. The monotonic clock may stand
// still, and never runs ahead.
func (m moment) sinceAtLeast(earlier moment) time.Duration { return m.mono.Sub(earlier.mono) }
