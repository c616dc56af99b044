package libcluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/quote"
)

// leastLeave is how long Leave may take if its context ends before: enough for
// the last callback and for a registry that answers.
const leastLeave = time.Second

// engine is what works for a membership. Ping holds the record, the balancer (one for each
// incarnation, started and awaited by ping) computes the state, the notifier calls back, and the
// member hook tells of members. All have ended when leave returns, unless it has given up on one.
type engine struct {
	*membership
	notifier *notifier
	hook     *memberHook // nil: the application wants to know nothing of members
	pinger   *pinger

	through   func()        // called when it is through
	done      chan struct{} // closed after that
	leaveOnce sync.Once
	leaveErr  error // read after done
}

func newEngine(i *instance, run *runner, through func()) *engine {
	m := newMembership(i)
	e := &engine{
		membership: m, notifier: newNotifier(m, run), hook: newMemberHook(m), pinger: newPinger(m),
		through: through, done: make(chan struct{}),
	}
	if run != nil {
		run.leave = e.leave
	}
	return e
}

func (e *engine) start() {
	go e.notifier.notify()
	if e.hook != nil {
		go e.hook.run()
	}
	if e.leavesByItself() {
		go e.awaitExit()
	}
	go e.pinger.ping()
}

// leave tells the application, then removes the record, or leaves it to live for
// returning, then ends everything. A later leave waits for the first one.
func (e *engine) leave(ctx context.Context, returning time.Duration) error {
	first := false
	e.leaveOnce.Do(func() {
		first = true
		e.log.Debug("leaving", zap.Duration("returning within", returning))
		e.left.Store(true)
		close(e.leaving)
		e.changed.send()
	})
	if !first {
		select {
		case <-e.done:
			return e.leaveErr
		case <-ctx.Done():
		}
		if e.hurries(context.Cause(ctx)) {
			<-e.done
			return e.leaveErr
		}
		return fmt.Errorf("libcluster: still leaving: %w", context.Cause(ctx))
	}
	defer func() {
		e.through()
		close(e.done)
	}()

	late, stop := shortlyAfter(ctx)
	defer stop()

	// The record stays and is renewed while the application winds down.
	stopDraining := e.drainIfSlow(returning)
	select {
	case <-e.notifier.ended:
	case <-ctx.Done():
		what := "a callback has not returned"
		if e.notifier.run != nil {
			what = "a callback has not returned, or a function given to Run"
		}
		e.leaveErr = fmt.Errorf("libcluster: left, but %s: %w", what, context.Cause(ctx))
	}
	stopDraining()
	e.cancel()
	if !e.awaitPing(ctx) {
		e.leaveErr = errors.Join(e.leaveErr, e.abandoned())
		go func() { // ends with that call, and with what it may still have opened
			<-e.pinger.ended
			e.pinger.discard(e.pinger.current.Load())
		}()
	} else if inc := e.pinger.current.Load(); inc != nil {
		e.leaveErr = errors.Join(e.leaveErr, e.awaitRemoved(ctx, late, inc.session, returning))
		inc.in.Assigned(e.view.Load().state.inactive())
	}
	e.leaveErr = quote.Error(errors.Join(e.leaveErr, e.hook.await(ctx)))
	e.log.Debug("left the cluster", zap.Error(e.leaveErr))
	return e.leaveErr
}

// drainIfSlow has an instance that takes long to wind down give its partitions away one by one,
// as one that drains does. One function that is slow, or hangs, then holds up its own partition
// alone, and the others see for what they wait. For what is reserved nobody waits.
func (e *engine) drainIfSlow(returning time.Duration) (stop func() bool) {
	if e.cfg.Mode != ModeCooperative || e.cfg.Passive || returning > 0 {
		return func() bool { return false }
	}
	return time.AfterFunc(window(e.cfg.TTL)/slowDrainPart, func() {
		e.lingers.Store(true)
		if inc := e.pinger.current.Load(); inc != nil {
			inc.record.compare()
		}
	}).Stop
}

// awaitPing waits for ping to end until ctx does, and a little longer, since
// ping's own calls end only now. It reports whether ping has ended.
func (e *engine) awaitPing(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	select {
	case <-e.pinger.ended:
		return true
	case <-ctx.Done():
	}
	select {
	case <-e.pinger.ended:
		return true
	case <-time.After(releaseGrace):
		return false
	}
}

// abandoned says that a call of the registry goes on though its context has ended.
func (e *engine) abandoned() error {
	e.log.Error("a call of the registry has not returned")
	return errors.New("libcluster: left, but a call of the registry has not returned")
}

// shortlyAfter returns what is closed a little later than ctx ends, since the registry's calls
// end only then.
func shortlyAfter(ctx context.Context) (late <-chan struct{}, stop func() bool) {
	closed := make(chan struct{})
	return closed, context.AfterFunc(ctx, func() { time.AfterFunc(releaseGrace, func() { close(closed) }) })
}

// awaitRemoved removes the record. It waits for that until shortly after its time has passed, but
// not longer than until late.
func (e *engine) awaitRemoved(ctx context.Context, late <-chan struct{}, session Session, returning time.Duration) error {
	limit := leaveTimeout
	if deadline, ends := ctx.Deadline(); ends {
		limit = max(limit, time.Until(deadline)/2) // an overloaded registry may need it
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	over, stop := shortlyAfter(ctx)
	removed := make(chan error, 1)
	go func() {
		defer cancel()
		removed <- e.remove(ctx, session, returning)
		stop()
	}()
	select {
	case err := <-removed:
		return err
	case <-over:
	case <-late:
	}
	select {
	case err := <-removed:
		return err
	default:
		return e.abandoned()
	}
}

// remove ends a session and its record, or only the session if the assignment is to be
// reserved.
func (e *engine) remove(ctx context.Context, session Session, returning time.Duration) error {
	stopped := e.cfg.Mode.excludes() && !e.cfg.Passive && !e.acting.Load()
	d := Departure{Reserve: returning, Last: e.reserved(stopped), Stopped: stopped}
	if e.cfg.Mode == ModePlanned && !e.cfg.Passive && returning == 0 {
		d.Stopped = true // nobody waits, and the note tells the coordinator that this is no crash
	}
	if !e.cfg.Registry.Capabilities().Reserves {
		d.Reserve = 0
	}
	if planner, ok := session.(Planner); ok && stopped && returning == 0 {
		e.closePlan(ctx, planner)
	}
	err := session.Leave(ctx, d)
	if err != nil {
		e.stats.failed(RegistryLeave, err)
	}
	switch {
	case err != nil && d.Reserve > 0:
		return fmt.Errorf("libcluster: left, but the assignment may not be reserved: %w", err)
	case err != nil && d.Stopped:
		return fmt.Errorf("libcluster: left, but the others will wait for the record to expire: %w", err)
	case err != nil:
		return fmt.Errorf("libcluster: left, but the record stays until it expires: %w", err)
	case returning > d.Reserve:
		return ErrCannotReturn
	}
	return nil
}

// reserved is the record of an instance that has left for a restart: it keeps the
// assignment, and no instance is there.
func (e *engine) reserved(stopped bool) Member {
	last := e.registration().Member
	last.reserved = true
	if stopped {
		last.plans.window = 0 // nobody acts by this record
	}
	return last
}
