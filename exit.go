package libcluster

import (
	"context"
	"errors"

	"go.uber.org/zap"
)

// leavesByItself reports whether there is a reason to leave of which nobody waits for it.
func (e *engine) leavesByItself() bool {
	cfg := &e.cfg
	return e.notifier.run == nil && (cfg.OnExit != nil || cfg.Superseded != nil || cfg.GiveUpAfter > 0)
}

// awaitExit is a goroutine that leaves when the membership has failed after it was joined,
// and tells the application. It ends when the membership is left.
func (e *engine) awaitExit() {
	select {
	case <-e.failed:
	case <-e.leaving:
		return
	}
	f := e.cfg.OnExit
	why, joined := e.failure()
	if !joined || f == nil && errors.Is(why, ErrInstanceTaken) {
		return // Join returns it; or the application finds it in Err, as ever
	}
	// However long the application takes to wind down, unless it calls Leave.
	ctx, hurry := context.WithCancelCause(context.Background())
	defer hurry(nil)
	e.mayHurry(hurry)
	if err := e.leave(ctx, 0); err != nil {
		e.log.Warn("could not leave properly", zap.Error(err))
	}
	if f != nil {
		f(why)
	}
}
