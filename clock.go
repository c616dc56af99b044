package libcluster

import "time"

// moment is a reading of the clocks by which a deadline is kept.
//
// Go's monotonic clock stops while a Linux machine sleeps, and the life of a lease goes
// on. So the time asleep is read beside it and added. It only ever adds, which errs
// towards fencing.
type moment struct {
	mono   time.Time
	asleep time.Duration
}

// now reads the time asleep first: of a sleep between the two nothing is lost then.
func now() moment {
	asleep := timeAsleep()
	return moment{time.Now(), asleep}
}

// since returns how much time has passed from earlier to m, at the most.
func (m moment) since(earlier moment) time.Duration {
	passed := m.mono.Sub(earlier.mono)
	if slept := m.asleep - earlier.asleep; slept >= shortestSleep {
		passed += slept
	}
	return passed
}

// shortestSleep: two clocks can't be read at the same instant, and no machine sleeps for
// less.
const shortestSleep = 10 * time.Millisecond

// sinceAtLeast returns how much time has passed from earlier to m, at the least. An
// instance that waits until another instance must have stopped uses it. The monotonic
// clock may stand still, and never runs ahead.
func (m moment) sinceAtLeast(earlier moment) time.Duration { return m.mono.Sub(earlier.mono) }
