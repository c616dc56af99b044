package libcluster

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// prepare is a plan that has this instance stop.
type prepare struct {
	revision, generation int64
}

// drain is how an incarnation stops acting for a plan. The balancer begins it, the
// notifier says that the application has stopped, and an errand acknowledges that to the
// registry.
type drain struct {
	// The balancer's. It ends with the balancer.
	under      prepare     // the plan
	slow, hung *time.Timer // what is done unless the application stops before

	stopped  atomic.Pointer[prepare] // the latest plan for which the application has stopped
	unsaid   signal                  // stopped is to be acknowledged
	slowFor  atomic.Int64            // the generation of the latest plan for which it took long
	isSlow   func()                  // called when slowFor has changed; must not block
	hangsFor func(p prepare)         // called, once for a plan, by a goroutine of its own
}

func newDrain(isSlow func(), hangsFor func(prepare)) *drain {
	return &drain{unsaid: newSignal(), isSlow: isSlow, hangsFor: hangsFor}
}

// begin starts to watch the application, which has to stop for a plan. It does nothing if
// it has begun for that plan.
func (d *drain) begin(p prepare, slow, hung time.Duration) {
	if d.under == p {
		return
	}
	d.end()
	d.under = p
	d.slow = time.AfterFunc(slow, func() {
		if !d.hasStopped(p) {
			d.slowFor.Store(p.generation)
			d.isSlow()
		}
	})
	d.hung = time.AfterFunc(hung, func() {
		if !d.hasStopped(p) {
			d.hangsFor(p)
		}
	})
}

// end stops the watching.
func (d *drain) end() {
	stop(d.slow)
	stop(d.hung)
}

// say notes that the application has stopped for a plan, which is to be acknowledged.
func (d *drain) say(p prepare) {
	d.stopped.Store(&p)
	d.unsaid.set()
}

func (d *drain) hasStopped(p prepare) bool {
	latest := d.stopped.Load()
	return latest != nil && *latest == p
}

// acknowledge notes in the registry that the application has stopped. It reports false if
// that has to be tried again.
func (inc *incarnation) acknowledge() bool {
	p := inc.drain.stopped.Load()
	if v := inc.c.view.Load(); v.inc != inc || v.plan == nil || v.plan.prepare == nil || *v.plan.prepare != *p {
		return true // the plan has changed meanwhile
	}
	ctx, cancel := context.WithTimeout(inc.ctx, inc.patience())
	defer cancel()
	err := inc.planner().Drained(ctx, p.revision, p.generation)
	switch {
	case err == nil, errors.Is(err, ErrPlanChanged), inc.ctx.Err() != nil:
		return true
	case isFinal(err):
		inc.end(err)
		return true
	}
	inc.note(err)
	inc.report(zap.WarnLevel, "cannot say yet that the application has stopped, will keep trying", zap.Error(err))
	return false
}

// stuckFlush is how long OnStuck waits for the line that says why it is called.
const stuckFlush = 100 * time.Millisecond

// slowDrainPart: an instance that has not stopped after a twelfth of its window writes into
// its record that it has heard of the plan, or the coordinator may take it for dead.
const slowDrainPart = 12

// stuck lets the record go, since the application does not stop for a plan, so
// that the plan does not wait for ever.
func (inc *incarnation) stuck(p prepare) {
	if inc.ctx.Err() != nil {
		return
	}
	inc.end(ErrStuck)
	inc.log.Error("the application has not stopped in time; letting the record go",
		zap.Duration("after", inc.c.cfg.DrainTimeout), zap.Int64("generation", p.generation))
	if inc.c.cfg.OnStuck != nil {
		inc.c.flushLog(context.Background(), stuckFlush) // it may end the process
		inc.c.cfg.OnStuck()
	}
}
