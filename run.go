package libcluster

import (
	"context"
	"errors"
	"runtime"
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

// Run joins the cluster and runs f under each assignment that this instance gets,
// one after another, until ctx ends or f has returned by itself. Then it leaves.
//
// f runs only while this instance has an assignment, with the state of that assignment.
// It runs in a goroutine of its own and never twice at the same time. Its context ends
// when f has to stop, and [context.Cause] says why:
//
//   - [ErrRebalanced]: index, workers, total or the partitions held have changed;
//   - [ErrDeadlinePassed], [ErrRecordGone], [ErrRegistryReset] or
//     [ErrInstanceTaken]: the instance is fenced, see [Cluster.Err];
//   - [ErrLeft]: [Cluster.Leave] was called elsewhere;
//   - the cause of the end of ctx, from which f's context descends.
//
// When f has returned it runs again under the newest state, unless Run ends. If f takes
// long to return, that delays only its own next run, and leaving; in mode [ModeExclusive]
// it delays all other instances too, and in mode [ModeCooperative] those that are to get a
// partition from this one, see [Config.DrainTimeout]. The delay is logged, and
// the record is kept alive meanwhile. [Config.OnRebalance] is called too, between the
// return of f and its next run.
//
// f gets the state of its start. [Cluster.State] has the newest deadline and looks at the
// clock. So it is right even in a process that has just been paused for a while, whose
// contexts have not ended yet.
//
// Run ends
//
//   - with nil when f returns nil by itself, before its context has ended: the
//     work is done, as it is for a function given to an errgroup. So a batch job
//     returns from f, and a service that should run for ever does not;
//   - with f's error when f returns an error by itself, before its context has ended;
//   - with nil when ctx ends or Leave is called, and f has returned;
//   - with [ErrInstanceTaken] when another instance has taken over the ID and
//     [Config.ReclaimAfter] is not set, since then there will be no other assignment;
//   - with an error like [Cluster.Join]'s if Run ends before it has joined, also
//     if ctx has ended it. Until then Run keeps trying, like Join;
//   - with [ErrJoined] at once if the instance is joined or running already, and with
//     [ErrPassive] if the instance is passive.
//
// Whatever f returns after its context has ended means that f has stopped. The reason is
// that an error which the end of a context has caused rarely says so: a gRPC call in
// flight returns code Canceled, and a PostgreSQL driver "canceling statement due to user
// request"; neither is [context.Canceled]. An error other than the context's own error or cause
// is logged at Warn, and does not end Run. So a failure at the very moment at which the
// context ends is only logged: if it lasts, f meets it again in its next run. When ctx
// has ended, Run still returns nil; if the application has to know an error of winding
// down, f must keep it.
//
// The options say whether an error of f ends Run ([Restart]), and whether the assignment
// is reserved after the end of Run ([Returning]).
//
// Before it returns, Run waits for f, however long that takes. Then it removes the
// record, which takes some ten seconds at the most if the registry does not answer. If
// the record could not be removed, that is logged, and Run returns no error for it.
//
// f must not call Leave, which would wait for f: to leave, f returns. A panic in f is
// not recovered. It ends the program after the assignment was given back, which takes
// little more than a second at the most. [runtime.Goexit] in f ends Run's goroutine too.
func (c *Cluster) Run(ctx context.Context, f func(ctx context.Context, s State) error, options ...RunOption) error {
	return c.run(&runner{ctx: ctx, tasks: alone(f)}, options)
}

// RunWorkers is [Cluster.Run] with a goroutine for each worker of this instance: f runs
// once for each index from s.Index to s.Index+s.Workers-1, at the same time. That index
// is f's argument worker.
//
// All workers have returned before any runs under the next state. If a worker returns an
// error before its context has ended, the contexts of the other workers end with that
// error as their cause, and RunWorkers ends with it when they have returned. Whatever the
// others return after that means that they have stopped, as with Run. RunWorkers ends with
// nil when all workers have returned nil by themselves. A worker that returns earlier than
// the others leaves its index idle; if the state changes meanwhile it runs again with the
// others. An idle index is logged at Warn, but not in a static cluster, whose workers come
// to an end. [Cluster.Coverage] does not know of it, since the index is held. See
// [Restart] for workers that an error should not end.
//
// In mode [ModeCooperative] workers have no indexes, and RunWorkers returns an error at once:
// see [Cluster.RunPartitions].
func (c *Cluster) RunWorkers(ctx context.Context, f func(ctx context.Context, worker int, s State) error, options ...RunOption) error {
	if c.cfg.Mode == ModeCooperative {
		return errors.New("libcluster: RunWorkers: in mode cooperative workers have no indexes; use RunPartitions")
	}
	r := &runner{ctx: ctx}
	if f != nil {
		r.tasks = func(s State) []task {
			tasks := make([]task, s.Workers)
			for n := range tasks {
				tasks[n] = func(ctx context.Context) error { return f(ctx, s.Index+n, s) }
			}
			return tasks
		}
	}
	return c.run(r, options)
}

// RunPrimary is [Cluster.Run] while this instance is the primary, which is the instance
// whose index is 0. Use it for leader election: the other instances call RunPrimary too,
// and wait for their turn.
//
// Choose [Config.Mode] with care. In mode [ModeDirect] the primary is the instance whose ID
// sorts first, so each newcomer with a smaller ID becomes the primary in place of a healthy
// one; with random IDs, which are the default, the second instance does so half of the
// time. RunPrimary says so in the log, once, at Warn. In modes [ModePlanned] and
// [ModeExclusive] the primary stays the primary until it leaves or is lost, and so in mode
// [ModeCooperative], where it is the instance that holds partition 0, unless it drains. Give instances
// IDs that they keep, such as the host name.
//
// Unlike with Run, and except in mode [ModeExclusive], a new state does not stop f if this
// instance stays the primary: f goes on for as long as the index stays 0 in one
// incarnation, whatever happens to workers and total, or in mode [ModeCooperative] for as long
// as partition 0 is held by one token. So [Config.OnRebalance] can be
// called while f runs.
//
// In modes [ModeDirect] and [ModePlanned] the next primary can start before this instance has
// heard that the index has moved, as with every index; see the package's documentation. In mode
// [ModeExclusive] every change stops f, since all instances stop.
//
// Whatever f returns after its context has ended means that f has stopped, as with Run:
// an error is logged, and the instance waits for its next turn. A nil that f returns by
// itself ends RunPrimary, as it ends Run: the instance leaves, the next instance becomes
// the primary, and runs its own f.
func (c *Cluster) RunPrimary(ctx context.Context, f func(ctx context.Context, s State) error, options ...RunOption) error {
	if c.cfg.Mode == ModeDirect && !c.isStatic() {
		c.restless.Do(func() {
			c.log.Warn("RunPrimary in mode direct: each newcomer with a smaller ID becomes the primary in place of this one; " +
				"set Config.Mode to ModePlanned or ModeExclusive to have a primary that stays")
		})
	}
	return c.run(&runner{ctx: ctx, primary: true, tasks: alone(f)}, options)
}

// isStatic reports whether assignments never change.
func (c *Cluster) isStatic() bool { return !c.cfg.Registry.Capabilities().Members }

// alone makes f the only task, for Run and RunPrimary. It returns nil if there is none.
func alone(f func(context.Context, State) error) func(State) []task {
	if f == nil {
		return nil
	}
	return func(s State) []task {
		return []task{func(ctx context.Context) error { return f(ctx, s) }}
	}
}

// run joins, waits for a reason to end, and leaves.
func (c *Cluster) run(r *runner, options []RunOption) error {
	if c.cfg.Passive {
		return ErrPassive
	}
	for _, option := range options {
		option.toRun(r)
	}
	if err := r.check(); err != nil {
		return err
	}
	r.ended = make(chan struct{})
	for _, one := range r.all() {
		one.of = r
	}
	s, err := c.enter(r)
	if err != nil {
		return err
	}
	defer c.endRun()

	if err = s.awaitJoined(r.ctx); err == nil {
		select {
		case <-r.ended:
		case <-s.failed:
		case <-s.leaving:
		case <-r.ctx.Done():
		}
	}
	// However long the application takes to wind down. What comes after that
	// has an end of its own.
	if leaveErr := s.leave(context.WithoutCancel(r.ctx), r.leaving.returning); leaveErr != nil {
		s.log.Warn("could not leave properly", zap.Error(leaveErr))
	}
	c.flushLog(context.Background(), lastFlush)
	<-s.notifier.ended // f may still run, if a Leave elsewhere has given up on it

	switch {
	case r.panicking.Load():
		select {} // whatever the caller does next must not hide the panic
	case errors.Is(r.err, errGoexit):
		runtime.Goexit()
	case isClosed(r.ended):
		return r.err
	case !isClosed(s.ready):
		return s.notJoined(err)
	case isClosed(s.failed):
		why, _ := s.failure() // the ID is another instance's, or it has left by itself
		return why
	}
	return nil
}

// endRun allows the next Run.
func (c *Cluster) endRun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = false
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
	return r.primary && r.turn != nil && r.turn.inc.c.cfg.Mode == ModeCooperative
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
			if err := t.inc.leave(ctx, 0); err != nil {
				t.inc.log.Warn("could not leave before a panic", zap.Error(err))
			}
			t.inc.c.flushLog(ctx, panicTimeout)
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
		if err == nil && !stopped && !t.inc.c.isStatic() {
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
	t.inc.notifier.changed.set() // it may wait for this
}
