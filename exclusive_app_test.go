package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/simulator"
)

// app is an application with one instance: what it does, and what it was told.
//
// It acts from when it is told of a place, and as soon as its State says so, until
// the callback that takes the place back has returned: what takes time to stop goes
// on until then. But not past the deadline of the incarnation, whether or not it has
// been told to stop: what is done after that is the application's own fault. Nobody
// else may act meanwhile.
type app struct {
	*simulator.App
	w     *world
	rate  float64 // of its clock
	start time.Time
	cfg   libcluster.Config

	// Guarded by the world's lock.
	doom       *doom
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
		App: w.NewApp(fmt.Sprintf("%s%d", id, len(w.apps)), id, 1+w.Steps.IntN(5)),
		w:   w, start: time.Now(), rate: 0.9 + 0.2*w.Steps.Float64(),
	}
	a.cfg = libcluster.Config{
		Key: "mailer", ID: id, Workers: a.Wants, Mode: libcluster.ModeExclusive,
		Registry: witness{a}, OnRebalance: a.onRebalance, OnStuck: func() { w.Locked(func() { w.Happened("stuck") }) },
		Logger: w.Logger(a), TTL: ttls[w.Steps.IntN(len(ttls))], DrainTimeout: drains[w.Steps.IntN(len(drains))],
	}
	if w.ttl > 0 {
		a.cfg.TTL = w.ttl
	}
	var err error
	if a.Cluster, err = libcluster.New(a.cfg); err != nil {
		panic(err)
	}
	a.SetClockRate(a.rate)
	w.apps = append(w.apps, a)
	return a
}

// shouldBeActive tells who has to be back when nothing is wrong any more.
func (a *app) shouldBeActive() bool {
	return a.InStay && (a.Joined || a.Busy) && !a.Crashed() && !errors.Is(a.Err(), libcluster.ErrInstanceTaken)
}

// do calls a method in a goroutine of its own; an app has one at a time.
func (a *app) do(what string, patience time.Duration, call func(context.Context) error, after func(error)) {
	a.w.Say("%s: %s within %v", a, what, patience)
	a.Busy = true
	a.w.Running.Go(func() {
		ctx, cancel := a.w.patience(patience)
		defer cancel()
		err := call(ctx)
		a.w.Locked(func() {
			a.Busy = false
			a.w.Say("%s: %s: %v", a, what, err)
			if ctx.Err() != nil {
				a.w.Happened("context ended in " + what)
			}
			after(err)
		})
	})
}

// patience is a context that ends after d, but, if nothing goes wrong any more before
// that, then not.
func (w *world) patience(d time.Duration) (context.Context, context.CancelFunc) {
	select {
	case <-w.Calm:
		return context.WithTimeout(context.Background(), d)
	default:
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-time.After(d):
			cancel()
		case <-w.Calm:
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func (a *app) join(patience time.Duration) {
	a.Stay++
	a.InStay, a.Joined = true, false
	a.do("Join", patience, a.Join, func(err error) { a.Joined, a.InStay = err == nil, err == nil })
}

func (a *app) leave(patience time.Duration, options ...libcluster.LeaveOption) {
	a.Joined = false
	a.do("Leave", patience, func(ctx context.Context) error { return a.Leave(ctx, options...) }, func(error) {
		a.InStay = false
		if a.State().Active() {
			a.w.Fail("%s has left and is active: %v", a, a.State())
		}
	})
}

func (a *app) setWorkers(n int, patience time.Duration) {
	a.Wants = n
	a.do("SetWorkers", patience, func(ctx context.Context) error { return a.SetWorkers(ctx, n) }, func(error) {})
}

// onRebalance is the callback.
func (a *app) onRebalance(s libcluster.State) {
	w := a.w
	var slow func()
	w.Locked(func() {
		w.Say("%s is told %d+%d/%d in %d", a, s.Index, s.Workers, s.Total, s.Generation)
		w.Happened("callback")
		if a.calling {
			w.Fail("%s: two callbacks at the same time", a)
		}
		a.calling, a.told, slow = true, s, a.Slow
		switch {
		case s.Active() && a.open != nil && a.of.stay == a.Stay:
			w.Fail("%s is told of a place before it was told to stop: %v", a, s)
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
	w.Locked(func() {
		a.calling = false
		if !s.Active() {
			a.stopped(w.stamp())
		}
	})
}

// acts is what it does in a state, from now on.
func (a *app) acts(s libcluster.State) *acting {
	return &acting{a.Name, s.Index, s.Workers, s.Total, s.Generation, a.w.stamp(), 0}
}

// until is what it has done so far, or by its deadline.
func (a *app) until(now int64) acting {
	done := *a.open
	done.to = min(now, a.w.at(a.of.deadline))
	return done
}

func (a *app) stopped(now int64) {
	if a.open != nil {
		a.w.noteActs(a.until(now))
		a.open = nil
	}
}

// noteActs notes what an app has done.
func (w *world) noteActs(a acting) {
	w.acts = append(w.acts, a)
	w.Happened("interval of acting")
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
		w.Fail("%s reads generation %d after %d", a, s.Generation, a.generation)
	}
	a.generation = s.Generation
	if late := time.Since(a.view.deadline); late > rounding {
		w.Fail("%s is active %v after its deadline", a, late)
	}
	if deadline := a.start.Add(time.Duration(float64(s.Deadline.Sub(a.start)) / a.rate)); deadline.Sub(a.view.deadline) > rounding {
		w.Fail("%s thinks that its deadline is %v later", a, deadline.Sub(a.view.deadline))
	}
	switch {
	case a.open == nil || a.of != a.view:
		// It has not been told yet, but may look.
		now := a.acts(s)
		now.to = now.from + 1
		w.noteActs(*now)
	case a.open.index != s.Index || a.open.workers != s.Workers || a.open.total != s.Total:
		w.Fail("%s has moved without having stopped: from %v to %v", a, *a.open, s)
	case a.open.generation != s.Generation:
		a.stopped(w.stamp())
		a.open, a.of = a.acts(s), a.view
		w.Happened("new generation, same places")
	}
}

// rounding is how exact times are that a clock of another rate shows.
const rounding = 10 * time.Nanosecond

// checkPlace wants a place to be as a plan has it that was committed.
func (w *world) checkPlace(a *app, s libcluster.State) {
	p, known := w.plans[s.Generation]
	if !known {
		w.Fail("%s has a generation that was never committed: %v", a, s)
		return
	}
	for _, place := range p.Places {
		if place.ID == a.ID && place.Index == s.Index && place.Workers == s.Workers && p.Total == s.Total {
			return
		}
	}
	w.Fail("%s is at %v, and the plan is %+v", a, s, p)
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
		w.Fail("%v, and %v", a, b)
	}
}
