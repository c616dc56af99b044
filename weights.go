package libcluster

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// maxRecords bounds the records of all members together, as an instance keeps them
	// that lists them: each counts what it holds, and something for the books.
	maxRecords = 32 << 20

	// recordCost and entryCost are what a member and an entry of its metadata take
	// besides their text, or nearly so.
	recordCost = 256
	entryCost  = 64

	// rereadPause is how long an instance waits that has found the records too large,
	// before it reads them again.
	rereadPause = 10 * time.Second
)

// weights is how much memory the records of members take.
type weights struct {
	of    map[string]int // by key
	total int
}

func newWeights() *weights { return &weights{of: make(map[string]int)} }

// member notes a member's record of so many bytes, or that there is none.
func (w *weights) member(e Event, bytes int) {
	if e.Gone {
		w.put(e.Member.ID, 0)
	} else {
		w.put(e.Member.ID, bytes+recordCost+entryCost*len(e.Member.Metadata))
	}
}

// put notes what one key takes.
func (w *weights) put(key string, bytes int) {
	w.total += bytes - w.of[key]
	delete(w.of, key)
	if bytes > 0 {
		w.of[key] = bytes
	}
}

// tooLargeError is why an instance does not take in the records of a cluster.
type tooLargeError struct {
	cluster, largest string
	bytes            int
}

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("the records of the members of %s are together larger than %d MiB, the most that an instance takes in; "+
		"the largest is that of the key %q with %d bytes", e.cluster, maxRecords>>20, e.largest, e.bytes)
}

// recordsLimit has an instance that has found the records too large leave them alone for a
// while.
type recordsLimit struct {
	mu    sync.Mutex // guards what follows
	large error      // why the records were not taken in
	since time.Time  // when they were last found too large
}

// tooLarge returns why the members are not read, for a while after their records were too
// large.
func (l *recordsLimit) tooLarge() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.large != nil && time.Since(l.since) < rereadPause {
		return l.large
	}
	return nil
}

// check returns an error if the records below a cluster's prefix take too much.
func (l *recordsLimit) check(prefix string, w *weights) error {
	if w.total <= maxRecords {
		return nil
	}
	err := &tooLargeError{cluster: strings.Trim(prefix, "/")}
	for key, bytes := range w.of {
		if bytes > err.bytes || bytes == err.bytes && prefix+key < err.largest {
			err.largest, err.bytes = prefix+key, bytes
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.large, l.since = err, time.Now()
	return err
}
