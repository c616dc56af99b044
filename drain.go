package libcluster

import (
	"sync/atomic"
	"time"
)

// prepare is a plan that has this instance stop.
type prepare struct {
	revision, generation int64
}

// drain is how an incarnation stops acting for a plan. The balancer begins it, the
// notifier says that the application has stopped, and ping acknowledges that to the
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
	if d.slow != nil {
		d.slow.Stop()
		d.hung.Stop()
	}
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
