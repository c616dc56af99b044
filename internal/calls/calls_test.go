package calls_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

func TestCallThatIsLateTellsWhatItHasWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		why := errors.New("a lock of another user")
		_, err := calls.Do(ctx, t.Context(), "reading", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			time.Sleep(time.Millisecond) // it is no faster than we
			return 0, why
		})
		require.ErrorIs(t, err, why)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestCallThatHangsEndsSoonAfterItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs, goOn := context.WithCancel(t.Context())
		defer goOn()
		for _, deadline := range []bool{true, false} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if !deadline {
				cancel()
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
			}
			sent := time.Now()
			_, err := calls.Do(ctx, t.Context(), "reading", func(context.Context) (int, error) {
				<-hangs.Done()
				return 0, nil
			})
			require.Equal(t, ctx.Err(), errors.Unwrap(err))
			require.Less(t, time.Since(sent), 1100*time.Millisecond)
			cancel()
		}
	})
}
