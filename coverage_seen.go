package libcluster

import (
	"sync"
	"time"
)

// coverageSeen is what an instance remembers of the last look at the coverage.
type coverageSeen struct {
	mu         sync.Mutex // guards what follows
	at         time.Time  // when it was; zero: never
	covered    bool
	since      time.Time
	generation int64 // of the state then
}

// saw notes an answer, and returns since when it has been the same. generation is that of this
// instance's state, and known is since when the instance has known it. A look is out of date
// after ttl.
//
// Within one generation coverage can only be lost, never regained: every change makes a
// new generation, except in a mode with a plan a vanished incarnation, which never
// returns. So two looks at the same generation that agree also agree about the time
// between them.
func (seen *coverageSeen) saw(covered bool, generation int64, known time.Time, ttl time.Duration) time.Time {
	now := time.Now()
	seen.mu.Lock()
	defer seen.mu.Unlock()
	watched := now.Sub(seen.at) <= ttl
	switch {
	case !seen.at.IsZero() && seen.covered == covered && (!covered || watched || seen.generation == generation):
	case covered && !known.IsZero() && (seen.at.IsZero() || seen.covered):
		seen.since = known
	default:
		seen.since = now
	}
	seen.at, seen.covered, seen.generation = now, covered, generation
	return seen.since
}

// latest returns what the last look has found.
func (seen *coverageSeen) latest() LastLook {
	seen.mu.Lock()
	defer seen.mu.Unlock()
	return LastLook{At: seen.at, Covered: seen.covered, Since: seen.since}
}
