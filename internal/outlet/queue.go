// Package outlet stands between the library and what the application gave it to
// write to, such as a logger or a pipe. A write there can take for ever, and nothing
// that keeps time may wait for it.
package outlet

import (
	"context"
	"sync"
)

// Queue hands what is put into it to a function, in order, and who puts never waits.
// The function is called by one goroutine of the queue's own, which lives only while
// there is something to hand over: a queue needs no closing. If the function hangs for
// ever, that one goroutine does so too.
type Queue[T any] struct {
	most    int
	write   func(T)
	dropped func(n int)

	mu      sync.Mutex // guards what follows; nobody waits or writes while holding it
	waiting []T
	missed  int           // how many were dropped since waiting was full
	idle    chan struct{} // closed when the goroutine ends; nil: there is none
}

// NewQueue returns a queue that keeps most elements besides those that are being
// written, and drops what comes beyond. When write has caught up dropped is told how
// many these were, in their place among the others.
func NewQueue[T any](most int, write func(T), dropped func(n int)) *Queue[T] {
	return &Queue[T]{most: most, write: write, dropped: dropped}
}

// Put never blocks.
func (q *Queue[T]) Put(one T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= q.most {
		q.missed++
		return
	}
	q.waiting = append(q.waiting, one)
	if q.idle == nil {
		q.idle = make(chan struct{})
		go q.run()
	}
}

// run writes until there is nothing left.
func (q *Queue[T]) run() {
	for {
		batch, missed := q.take()
		if len(batch) == 0 {
			return
		}
		for _, one := range batch {
			q.write(one)
		}
		if missed > 0 {
			q.dropped(missed)
		}
	}
}

// take returns all that waits. What was dropped came after all of it, and before
// whatever is put from now on. If nothing waits the goroutine is to end.
func (q *Queue[T]) take() (batch []T, missed int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch, missed = q.waiting, q.missed
	q.waiting, q.missed = nil, 0
	if len(batch) == 0 {
		close(q.idle)
		q.idle = nil
	}
	return batch, missed
}

// Flush waits until all is written, or until ctx ends.
func (q *Queue[T]) Flush(ctx context.Context) error {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
