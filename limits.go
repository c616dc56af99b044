package libcluster

import "time"

// What calls of a registry may take.
const (
	// errandTimeout bounds what is asked of a registry besides joining, renewing and
	// leaving, and asked again.
	errandTimeout = 5 * time.Second

	// cleanupTimeout is how long undoing a failed Join may take: longer than one
	// request to a registry that does not answer.
	cleanupTimeout = 3 * time.Second

	// leaveTimeout bounds the removal of the record, unless half the time that is left to
	// Leave's context is more.
	leaveTimeout = 5 * time.Second

	// releaseGrace is what a registry's call may take to return after its
	// context has ended.
	releaseGrace = 250 * time.Millisecond
)

// slowCallback is when a callback, or a function given to Run, that has not returned is logged.
const slowCallback = 10 * time.Second
