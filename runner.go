package libcluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// panicTimeout is how long a panic of the application is held up so that the assignment
// can be given back: long enough for a registry that answers, and short enough for a
// supervisor that waits for the program to end.
const panicTimeout = time.Second

// errGoexit stands for a function that has not returned and yet ended: by
// runtime.Goexit, as t.FailNow does, or by a panic.
var errGoexit = errors.New("libcluster: a function given to Run has ended its goroutine")

// alone makes f the only task, for Run and RunPrimary. It returns nil if there is none.
func alone(f func(context.Context, State) error) func(State) []task {
	if f == nil {
		return nil
	}
	return func(s State) []task {
		return []task{func(ctx context.Context) error { return f(ctx, s) }}
	}
}

// runner runs the application's functions under one state after another. The
// notifier starts and stops them as a part of calling back, so all that holds for
// callbacks holds for them: in particular an index of -1 has been told only when
// they have returned. What works for one partition is not waited for: the partition counts as
// held until then. A nil runner runs nothing.
type runner struct {
	ctx   context.Context    // Run's
	tasks func(State) []task // what to run at the same time
	// primary: only under index 0, and on as long as that stays.
	primary    bool
	partitions *partitionRunner // not nil: instead of the tasks
	leaving    leaving          // how to leave
	restart    *restartWaits    // nil: an error of a function ends Run
	// leave is the engine's.
	leave func(ctx context.Context, returning time.Duration) error

	also *runner // what runs besides; its outcome is this one's: see of
	of   *runner // itself, or the one besides which it runs

	turn      *turn         // what runs now; the notifier's
	finished  sync.Once     // guards the first end
	ended     chan struct{} // closed when the functions have ended by themselves
	err       error         // with this; read after ended or the notifier's end
	panicking atomic.Bool
}

// all are the runner and what runs besides.
func (r *runner) all() (all []*runner) {
	for ; r != nil; r = r.also {
		all = append(all, r)
	}
	return all
}

// finish notes that the functions have ended by themselves.
func (r *runner) finish(err error) {
	r.finished.Do(func() {
		r.err = err
		close(r.ended)
	})
}

type task func(context.Context) error

// stopOver stops what runs and is not allowed by this state of this view. It reports whether it
// has waited for any: it does not for what works for one partition.
func (r *runner) stopOver(v *view, state State) (waited bool) {
	var over []*runner
	for _, one := range r.all() {
		if one.partitions != nil {
			one.partitions.stopOver(v, state)
		}
		if !one.isOver(v, state) {
			continue
		}
		one.turn.cancel(one.turn.why())
		if !one.leads() || isClosed(one.turn.done) {
			over = append(over, one)
		}
	}
	for _, one := range over {
		one.await()
	}
	return len(over) > 0
}

// leads reports whether the function is the primary's in mode cooperative, which is work of
// partition 0 and of no other.
func (r *runner) leads() bool {
	return r.primary && r.turn != nil && r.turn.inc.cfg.Mode == ModeCooperative
}

func (r *runner) isOver(v *view, state State) bool {
	if r.turn == nil {
		return false
	}
	t := r.turn
	same := state.sameTo(t.told) || r.primary && state.Primary() && state.holdsAs(t.told, 0)
	return !same || v.inc != t.inc
}

// resume runs the functions, unless they do, under the state that has been told.
func (r *runner) resume(v *view, told State) {
	for _, one := range r.all() {
		one.begin(v, told)
	}
}

func (r *runner) begin(v *view, told State) {
	if r.turn != nil || isClosed(r.of.ended) || r.of.ctx.Err() != nil {
		return
	}
	if r.partitions != nil {
		r.partitions.begin(r, v, told)
		return
	}
	if !told.Active() || r.primary && !told.Primary() {
		return
	}
	state := v.now() // with the newest deadline
	if !state.Active() {
		return // telling it has taken too long
	}
	tasks := r.tasks(state)
	t := &turn{run: r, inc: v.inc, told: told, done: make(chan struct{}), running: len(tasks)}
	t.ctx, t.cancel = context.WithCancelCause(context.WithValue(r.of.ctx, timeLeftKey{}, v.inc))
	r.turn = t
	if r.primary {
		t.watching.Go(t.watch)
	}
	for _, f := range tasks {
		go t.do(f)
	}
}

// running returns the partitions whose functions have not returned.
func (r *runner) running() (set partitionSet) {
	for _, one := range r.all() {
		if one.partitions != nil {
			set = set.or(one.partitions.running())
		}
	}
	if r.leading() {
		set = set.or(partitionSet{{0, 1}})
	}
	return set
}

// leading reports whether the primary's function has not returned in mode cooperative.
func (r *runner) leading() bool {
	return slices.ContainsFunc(r.all(), func(one *runner) bool { return one.leads() && !isClosed(one.turn.done) })
}

const notReturned = "a function given to Run has not returned since its context ended; newer states wait for it"

// await waits for what was told to end.
func (r *runner) await() {
	t := r.turn
	slow := time.AfterFunc(slowCallback, func() {
		t.inc.log.Warn(notReturned, zap.Duration("since", slowCallback), zap.NamedError("cause", context.Cause(t.ctx)))
	})
	defer slow.Stop()
	<-t.done
	t.watching.Wait()
	r.turn = nil
}

// turn is one run of the functions, under one state.
type turn struct {
	run    *runner
	inc    *incarnation // whose assignment it is
	told   State
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when all functions have returned
	// watching is watch, if it is needed.
	watching sync.WaitGroup

	mu      sync.Mutex // guards what follows
	running int
	err     error // the first
}

// why returns why the turn has to end. That the assignment was lost counts more than
// that the instance leaves, which may be because of that, or because Run's context
// has ended.
func (t *turn) why() error {
	if err := t.inc.fenced(); err != nil {
		return err
	}
	if t.run.of.ctx.Err() != nil {
		return context.Cause(t.run.of.ctx)
	}
	if err := t.inc.over(); err != nil {
		return err
	}
	return ErrRebalanced
}

// watch ends the context when the incarnation is over. For a function that goes
// on through changes of the state the notifier may be too late for that: it is
// calling OnRebalance, which may take long.
func (t *turn) watch() {
	for t.inc.over() == nil {
		var deadline <-chan time.Time
		if left, ends := t.inc.remaining(); ends {
			deadline = time.After(left)
		}
		select {
		case <-deadline: // unless it has moved
		case <-t.inc.ctx.Done():
		case <-t.inc.leaving:
		case <-t.done:
			return
		}
	}
	t.cancel(t.why())
}

// do runs one of the functions.
func (t *turn) do(f task) {
	err := errGoexit // unless it returns
	defer func() {
		p := recover()
		if p != nil {
			t.run.of.panicking.Store(true) // before anything can end Run
		}
		// Before leaving, which waits for it. What f has deferred has run.
		t.returned(err)
		if p != nil {
			ctx, cancel := context.WithTimeout(context.Background(), panicTimeout)
			defer cancel()
			if err := t.run.of.leave(ctx, 0); err != nil {
				t.inc.log.Warn("could not leave before a panic", zap.Error(err))
			}
			t.inc.flushLog(ctx, panicTimeout)
			// The frames that it came from are still below this one, so they
			// are in the trace.
			panic(p)
		}
	}()
	err = t.run.of.restart.do(t, f)
}

// outcome is what counts of what a function has returned: nothing, once its context
// has ended.
func (t *turn) outcome(err error) (counts error, stopped bool) {
	if t.run.of.ctx.Err() != nil {
		t.cancel(context.Cause(t.run.of.ctx)) // it ends a moment before those that descend from it
	}
	ended := t.ctx.Err()
	if ended == nil || errors.Is(err, errGoexit) {
		return err, ended != nil
	}
	if cause := context.Cause(t.ctx); err != nil && !errors.Is(err, ended) && !errors.Is(err, cause) {
		t.inc.reportError(zap.WarnLevel, "a function given to Run has returned an error after its context has ended, "+
			"which counts as stopped", err, zap.NamedError("cause", cause))
	}
	return nil, true
}

// returned notes that one of the functions has returned. The first error ends the
// others.
func (t *turn) returned(err error) {
	err, stopped := t.outcome(err)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil && t.err == nil {
		t.err = err
		t.cancel(err)
	}
	if t.running--; t.running > 0 {
		if err == nil && !stopped && !t.inc.isStatic() {
			t.inc.report(zap.WarnLevel, "a worker has returned; its index is idle until the state changes or all have returned",
				zap.Int("still running", t.running))
		}
		return
	}
	if t.err != nil || !stopped && t.run == t.run.of && t.run.partitions == nil {
		t.run.of.finish(t.err)
	}
	t.cancel(nil) // releases the context
	close(t.done)
	t.inc.due.set() // it may wait for this
}
