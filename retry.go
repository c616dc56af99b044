package libcluster

import (
	"context"
	"errors"
	"time"

	"github.com/libcluster/libcluster/internal/chance"
)

const (
	// Waits after a failure double from backoffBase to backoffCap, with
	// jitter. The cap decides how soon after an outage all instances are back.
	backoffBase = 100 * time.Millisecond
	backoffCap  = time.Second
)

// retry waits after failures of one thing.
type retry struct {
	chance   *chance.Source
	failures int
}

// reset begins anew, after a success.
func (r *retry) reset() { *r = retry{chance: r.chance} }

// wait waits longer after each failure, and reports false if ctx ended first.
func (r *retry) wait(ctx context.Context) bool { return sleep(ctx, r.next()) }

// next returns how long to wait this time.
func (r *retry) next() time.Duration {
	d := min(backoffBase<<min(r.failures, 10), backoffCap)
	r.failures++
	return d/2 + r.chance.Below(d/2)
}

// atLeast returns a context that ends when ctx has ended and d has passed.
func atLeast(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, release := context.WithoutCancel(ctx), func() {}
	if end, ends := ctx.Deadline(); ends {
		longer, release = context.WithTimeout(longer, max(d, time.Until(end)))
	}
	longer, cancel := context.WithCancelCause(longer)
	go func() {
		if !sleep(longer, d) {
			return
		}
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) { // or it ends by itself
				cancel(context.Cause(ctx))
			}
		case <-longer.Done():
		}
	}()
	return longer, func() { cancel(nil); release() }
}

// sooner returns the shorter of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
