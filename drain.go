package libcluster

import (
	"slices"
	"sync/atomic"
	"time"
)

// prepare is a plan that has this instance stop.
type prepare struct {
	revision, generation int64
}

// stopped is what the application has stopped for a plan.
type stopped struct {
	prepare
	remaining string // in mode cooperative: the partitions that it has not stopped yet
}

// drain is how an incarnation stops acting for a plan. The balancer begins it, the
// notifier says that the application has stopped, and an errand acknowledges that to the
// registry.
type drain struct {
	// The balancer's. It ends with the balancer.
	under    prepare       // the plan
	releases partitionSet  // in mode cooperative: what has to stop
	timers   []*time.Timer // what is done unless the application stops before

	stopped  atomic.Pointer[stopped] // the latest plan for which the application has stopped
	unsaid   signal                  // stopped is to be acknowledged
	slowFor  atomic.Int64            // the generation of the latest plan for which it took long
	isSlow   func()                  // called when slowFor has changed; must not block
	hangsFor func(p prepare)         // called, once for a plan, by a goroutine of its own
}

func newDrain(isSlow func(), hangsFor func(prepare)) *drain {
	return &drain{unsaid: newSignal(), isSlow: isSlow, hangsFor: hangsFor}
}

// begin starts to watch the application, which has to stop for a plan: all that it does, or in
// mode cooperative what it is to release. It does nothing if it has begun for that plan. What
// an earlier plan has asked to release goes on being watched.
func (d *drain) begin(p prepare, releases partitionSet, slow, hung time.Duration) {
	if d.under == p {
		return
	}
	asked := releases.minus(d.releases)
	if slices.Equal(releases, asked) {
		d.end() // nothing is left of the plan before
	}
	d.under, d.releases = p, releases
	d.after(slow, func() {
		if !d.hasStopped(p, releases) {
			d.slowFor.Store(p.generation)
			d.isSlow()
		}
	})
	d.after(hung, func() {
		if !d.hasStopped(p, asked) {
			d.hangsFor(p)
		}
	})
}

func (d *drain) after(wait time.Duration, do func()) {
	d.timers = append(d.timers, time.AfterFunc(wait, do))
}

// end stops the watching.
func (d *drain) end() {
	for _, t := range d.timers {
		t.Stop()
	}
	d.timers, d.releases = nil, nil
}

// say notes that the application has stopped for a plan, but for some partitions, which is to
// be acknowledged. It does nothing if that has been said.
func (d *drain) say(p prepare, remaining string) {
	now := stopped{p, remaining}
	if before := d.stopped.Swap(&now); before == nil || *before != now {
		d.unsaid.set()
	}
}

// isSlowFor reports whether stopping for a plan takes long.
func (d *drain) isSlowFor(p prepare) bool { return d.slowFor.Load() == p.generation }

// hasStopped reports whether the application has stopped for a plan, or a later one: all that
// it does, or in mode cooperative these partitions.
func (d *drain) hasStopped(p prepare, these partitionSet) bool {
	latest := d.stopped.Load()
	if latest == nil || latest.generation < p.generation {
		return false
	}
	remaining, err := parsePartitions(latest.remaining, MaxPartitions)
	return err == nil && len(remaining.and(these)) == 0
}

// slowDrainPart: an instance that has not stopped after a twelfth of its window writes into
// its record that it has heard of the plan, or the coordinator may take it for dead.
const slowDrainPart = 12
