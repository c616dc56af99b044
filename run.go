package libcluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"go.uber.org/zap"
)

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
			c.logger.Warn("RunPrimary in mode direct: each newcomer with a smaller ID becomes the primary in place of this one; " +
				"set Config.Mode to ModePlanned or ModeExclusive to have a primary that stays")
		})
	}
	return c.run(&runner{ctx: ctx, primary: true, tasks: alone(f)}, options)
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
	e, err := c.enter(r)
	if err != nil {
		return err
	}
	defer c.endRun()

	if err = e.awaitJoined(r.ctx); err == nil {
		select {
		case <-r.ended:
		case <-e.failed:
		case <-e.leaving:
		case <-r.ctx.Done():
		}
	}
	// However long the application takes to wind down. What comes after that
	// has an end of its own.
	if leaveErr := e.leave(context.WithoutCancel(r.ctx), r.leaving.returning); leaveErr != nil {
		e.log.Warn("could not leave properly", zap.Error(leaveErr))
	}
	c.flushLog(context.Background(), lastFlush)
	<-e.notifier.ended // f may still run, if a Leave elsewhere has given up on it

	switch {
	case r.panicking.Load():
		select {} // whatever the caller does next must not hide the panic
	case errors.Is(r.err, errGoexit):
		runtime.Goexit()
	case isClosed(r.ended):
		return r.err
	case !isClosed(e.ready):
		return e.notJoined(err)
	case isClosed(e.failed):
		why, _ := e.failure() // the ID is another instance's, or it has left by itself
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

// RunPartitions is [Cluster.Run] in mode [ModeCooperative]: f runs once for each partition that
// this instance holds, at the same time, each in a goroutine of its own. It runs from when the
// partition is granted until it moves. Then the context of this one function ends, and when
// it has returned the partition is released, so that the next instance begins. The functions
// of all other partitions go on, and notice nothing.
//
// [context.Cause] says why a context has ended, as with Run: [ErrRebalanced] means that the
// partition moves. One function that is slow to return holds up its own partition only, also
// when the instance leaves, and so does the function of [WithPrimary] with partition 0; see
// [Config.DrainTimeout] for one that does not return at all. An instance that leaves to come back
// ([Returning]) gives nothing away, and each partition waits for all its functions.
//
// f never runs twice for one partition at the same time, in this instance or in any other.
// p.Token is the fencing token of this run.
//
// If f returns an error before its context has ended, RunPartitions ends with it, unless
// [Restart] says otherwise. Unlike with Run, a nil does not end RunPartitions: the work of that
// partition is done, and f runs for it again when this instance gets it anew. This is
// logged at Warn.
//
// For all else what is said of Run counts. [Config.OnRebalance] is not needed: it gets a state
// when partitions have been granted or revoked, and does not wait for f. In another mode
// RunPartitions returns an error at once.
func (c *Cluster) RunPartitions(ctx context.Context, f func(ctx context.Context, p Partition) error, options ...RunOption) error {
	if c.cfg.Mode != ModeCooperative {
		return fmt.Errorf("libcluster: RunPartitions: mode %v has no partitions; set Config.Mode to ModeCooperative", c.cfg.Mode)
	}
	return c.run(&runner{ctx: ctx, partitions: &partitionRunner{f: f}}, options)
}
