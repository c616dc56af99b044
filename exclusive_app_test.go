package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libcluster/libcluster"
)

// app is an application with one instance: what it does, and what it was told.
//
// It acts from when it is told of a place, and as soon as its State says so, until
// the callback that takes the place back has returned: what takes time to stop goes
// on until then. But not past the horizon of the incarnation, whether or not it has
// been told to stop: what is done after that is the application's own fault. Nobody
// else may act meanwhile.
type app struct {
	*libcluster.Cluster
	w       *world
	name    string // tells apart those that have one ID one after another
	id      string
	rate    float64 // of its clock
	start   time.Time
	cfg     libcluster.Config
	crashed chan struct{} // closed when it is cut off for ever; it goes on acting

	// Guarded by world.mu.
	sky    weather
	doom   *doom
	slow   func() // in each callback
	stay   int    // the number of its present stay
	busy   bool   // one of its methods is being called
	inStay bool   // from before Join until Leave has returned, or Join has failed
	joined bool   // from when Join has returned until before Leave
	wants  int    // workers

	view       *incarnation // the latest that was watched
	calling    bool
	told       libcluster.State
	generation int64        // the greatest that its State has had
	open       *acting      // what it does now, as it was told; nil: nothing
	of         *incarnation // whose place that is
}

// addApp makes an app, which does nothing yet.
func (w *world) addApp(id string) *app {
	drains := []time.Duration{time.Second, 5 * time.Second, 30 * time.Second}
	a := &app{
		w: w, name: fmt.Sprintf("%s%d", id, len(w.apps)), id: id, wants: 1 + w.steps.IntN(5),
		crashed: make(chan struct{}), start: time.Now(), rate: 0.9 + 0.2*w.steps.Float64(),
	}
	a.cfg = libcluster.Config{
		Key: "mailer", ID: id, Workers: a.wants, Mode: libcluster.Exclusive,
		Registry: witness{a}, OnRebalance: a.onRebalance, OnStuck: func() { w.locked(func() { w.happened("stuck") }) },
		TTL: ttls[w.steps.IntN(len(ttls))], DrainTimeout: drains[w.steps.IntN(len(drains))],
	}
	if w.ttl > 0 {
		a.cfg.TTL = w.ttl
	}
	if *exclusiveSeed > 0 {
		a.cfg.Logger = w.logger(a)
	}
	var err error
	if a.Cluster, err = libcluster.New(a.cfg); err != nil {
		panic(err)
	}
	a.SetClockRate(a.rate)
	w.apps = append(w.apps, a)
	return a
}

func (a *app) String() string { return a.name }

func (a *app) isCrashed() bool {
	select {
	case <-a.crashed:
		return true
	default:
		return false
	}
}

// crash ends an app as kill -9 does, as far as the registry can tell.
func (a *app) crash() {
	if !a.isCrashed() {
		a.w.say("%s crashes", a)
		close(a.crashed)
	}
}

// shouldBeActive tells who has to be back when nothing is wrong any more.
func (a *app) shouldBeActive() bool {
	return a.inStay && (a.joined || a.busy) && !a.isCrashed() && !errors.Is(a.Err(), libcluster.ErrInstanceTaken)
}

// do calls a method in a goroutine of its own; an app has one at a time.
func (a *app) do(what string, patience time.Duration, call func(context.Context) error, after func(error)) {
	a.w.say("%s: %s within %v", a, what, patience)
	a.busy = true
	a.w.running.Go(func() {
		ctx, cancel := a.w.patience(patience)
		defer cancel()
		err := call(ctx)
		a.w.locked(func() {
			a.busy = false
			a.w.say("%s: %s: %v", a, what, err)
			if ctx.Err() != nil {
				a.w.happened("context ended in " + what)
			}
			after(err)
		})
	})
}

// patience is a context that ends after d, but, if nothing goes wrong any more before
// that, then not.
func (w *world) patience(d time.Duration) (context.Context, context.CancelFunc) {
	select {
	case <-w.calm:
		return context.WithTimeout(context.Background(), d)
	default:
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-time.After(d):
			cancel()
		case <-w.calm:
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func (a *app) join(patience time.Duration) {
	a.stay++
	a.inStay, a.joined = true, false
	a.do("Join", patience, a.Join, func(err error) { a.joined, a.inStay = err == nil, err == nil })
}

func (a *app) leave(patience time.Duration, options ...libcluster.LeaveOption) {
	a.joined = false
	a.do("Leave", patience, func(ctx context.Context) error { return a.Leave(ctx, options...) }, func(error) {
		a.inStay = false
		if a.State().Active() {
			a.w.fail("%s has left and is active: %v", a, a.State())
		}
	})
}

func (a *app) setWorkers(n int, patience time.Duration) {
	a.wants = n
	a.do("SetWorkers", patience, func(ctx context.Context) error { return a.SetWorkers(ctx, n) }, func(error) {})
}

// onRebalance is the callback.
func (a *app) onRebalance(s libcluster.State) {
	w := a.w
	var slow func()
	w.locked(func() {
		w.say("%s is told %d+%d/%d in %d", a, s.Index, s.Workers, s.Total, s.Generation)
		w.happened("callback")
		if a.calling {
			w.fail("%s: two callbacks at the same time", a)
		}
		a.calling, a.told, slow = true, s, a.slow
		switch {
		case s.Active() && a.open != nil && a.of.stay == a.stay:
			w.fail("%s is told of a place before it was told to stop: %v", a, s)
		case s.Active():
			// A Leave that had no time to wait has said so, and no callback.
			a.stopped(w.stamp())
			a.open, a.of = a.acts(s), a.view
			w.checkPlace(a, s)
		}
	})
	if slow != nil {
		slow()
	}
	w.locked(func() {
		a.calling = false
		if !s.Active() {
			a.stopped(w.stamp())
		}
	})
}

// acts is what it does in a state, from now on.
func (a *app) acts(s libcluster.State) *acting {
	return &acting{a.name, s.Index, s.Workers, s.Total, s.Generation, a.w.stamp(), 0}
}

// until is what it has done so far, or by its horizon.
func (a *app) until(now int64) acting {
	done := *a.open
	done.to = min(now, a.w.at(a.of.horizon))
	return done
}

func (a *app) stopped(now int64) {
	if a.open != nil {
		a.w.acts = append(a.w.acts, a.until(now))
		a.open = nil
	}
}

// sample reads everybody's State.
func (w *world) sample() {
	for _, a := range w.apps {
		a.sample()
	}
}

func (a *app) sample() {
	w, s := a.w, a.State()
	if !s.Active() {
		return
	}
	w.checkPlace(a, s)
	if s.Generation < a.generation {
		w.fail("%s reads generation %d after %d", a, s.Generation, a.generation)
	}
	a.generation = s.Generation
	if late := time.Since(a.view.horizon); late > rounding {
		w.fail("%s is active %v after its horizon", a, late)
	}
	if horizon := a.start.Add(time.Duration(float64(s.Horizon.Sub(a.start)) / a.rate)); horizon.Sub(a.view.horizon) > rounding {
		w.fail("%s thinks that its horizon is %v later", a, horizon.Sub(a.view.horizon))
	}
	switch {
	case a.open == nil || a.of != a.view:
		// It has not been told yet, but may look.
		now := a.acts(s)
		now.to = now.from + 1
		w.acts = append(w.acts, *now)
	case a.open.index != s.Index || a.open.workers != s.Workers || a.open.total != s.Total:
		w.fail("%s has moved without having stopped: from %v to %v", a, *a.open, s)
	case a.open.generation != s.Generation:
		a.stopped(w.stamp())
		a.open, a.of = a.acts(s), a.view
		w.happened("new generation, same places")
	}
}

// rounding is how exact times are that a clock of another rate shows.
const rounding = 10 * time.Nanosecond

// checkPlace wants a place to be as a plan has it that was committed.
func (w *world) checkPlace(a *app, s libcluster.State) {
	p, known := w.plans[s.Generation]
	if !known {
		w.fail("%s has a generation that was never committed: %v", a, s)
		return
	}
	for _, place := range p.Places {
		if place.ID == a.id && place.Index == s.Index && place.Workers == s.Workers && p.Total == s.Total {
			return
		}
	}
	w.fail("%s is at %v, and the plan is %+v", a, s, p)
}

// checkOverlaps looks at what was done since it last did, and at what is being done.
func (w *world) checkOverlaps() {
	now := w.stamp()
	recent := append([]acting(nil), w.acts[w.checked:]...)
	w.checked = len(w.acts)
	for _, a := range w.apps {
		if a.open != nil {
			recent = append(recent, a.until(now))
		}
	}
	if a, b, found := findOverlap(recent); found {
		w.fail("%v, and %v", a, b)
	}
}
