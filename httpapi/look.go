package httpapi

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libcluster/libcluster"
)

// goodFor is how long what was read of the registry may be shown again, if no change is known
// since.
const goodFor = time.Second

var errClosed = errors.New("the handler is closed")

// looks reads the coverage for any number of requests, one read at a time.
type looks struct {
	cluster *libcluster.Cluster
	ctx     context.Context // ends the reads
	running sync.WaitGroup

	mu     sync.Mutex // guards what follows
	latest *look      // nil: none yet
}

// look is one read of the registry.
type look struct {
	changed <-chan struct{} // closed with the next change that is known
	done    chan struct{}   // closed when what follows is set
	at      time.Time
	found   libcluster.Coverage
	err     error
}

// isOver reports whether it has come to its end.
func (l *look) isOver() bool { return isClosed(l.done) }

// isOld reports whether there may be something new.
func (l *look) isOld() bool {
	return isClosed(l.changed) || l.isOver() && (l.err != nil || time.Since(l.at) > goodFor)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// get returns the coverage as of now, or a moment ago. A read that was under way when the
// latest change came may have missed it: then it waits for another one.
func (l *looks) get(ctx context.Context) (libcluster.Coverage, error) {
	const most = 3 // in a cluster that never comes to rest
	for tries := 1; ; tries++ {
		one := l.next()
		select {
		case <-one.done:
		case <-ctx.Done():
			return libcluster.Coverage{}, context.Cause(ctx)
		}
		if tries == most || !isClosed(one.changed) {
			return one.found, one.err
		}
	}
}

// next returns the read that is under way, or the latest one if that will do, or begins one.
func (l *looks) next() *look {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.latest != nil && (!l.latest.isOver() || !l.latest.isOld()) {
		return l.latest
	}
	one := &look{changed: l.cluster.Changed(), done: make(chan struct{}), err: errClosed}
	l.latest = one
	if l.ctx.Err() != nil {
		close(one.done)
		return one
	}
	l.running.Go(func() {
		defer close(one.done)
		one.found, one.err = l.cluster.Coverage(l.ctx)
		one.at = time.Now()
	})
	return one
}

// end ends the reads, after their context, and waits for them.
func (l *looks) end() {
	l.mu.Lock() // a request that has it after this begins none
	defer l.mu.Unlock()
	l.running.Wait()
}
