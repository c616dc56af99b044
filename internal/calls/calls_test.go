package calls_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/calls"
)

// lateContext is one whose deadline has passed, and which ends when it is waited for after
// a call has failed.
type lateContext struct {
	context.Context
	end    context.CancelFunc
	failed *atomic.Bool
}

func (c lateContext) Done() <-chan struct{} {
	if c.failed.Load() {
		c.end()
	}
	return c.Context.Done()
}

func (lateContext) Deadline() (time.Time, bool) { return time.Now(), true }

func TestTimerThatIsFirstIsNoTroubleOfTheStore(t *testing.T) {
	inner, cancel := context.WithCancel(t.Context())
	defer cancel()
	ctx := lateContext{inner, cancel, new(atomic.Bool)}
	_, err := calls.Do(ctx, t.Context(), "testing", func(context.Context) (int, error) {
		ctx.failed.Store(true)
		return 0, errors.New("i/o timeout")
	})
	require.ErrorIs(t, err, context.Canceled)
}
