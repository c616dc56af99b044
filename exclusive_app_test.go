package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	generation int64         // the greatest that its State has had
	open       map[int]*deed // what it does now, as it was told, by the first index
	run        *run          // nil: it joins and is called back
	style      style
	told       libcluster.State // by OnRebalance
	working    int              // functions of RunWorkers that have not returned
	inside     func()           // what it calls in the next of its callbacks
	functions
	calls  int // of its methods that have not returned
	leaves int // the stay that a Leave beside another call is to end
}

// deed is what an app does, for one incarnation.
type deed struct {
	acting
	of *incarnation
}

// until is what was done so far, or by the deadline.
func (d *deed) until(now int64) acting {
	done := d.acting
	done.to = min(now, d.of.a.w.at(d.of.deadline))
	return done
}

// addApp makes an app, which does nothing yet.
func (w *world) addApp(id string) *app { return w.addAppOf(w.scheme, id) }

func (w *world) addAppOf(of scheme, id string) *app {
	drains := []time.Duration{time.Second, 5 * time.Second, 30 * time.Second}
	a := &app{
		App: w.NewApp(fmt.Sprintf("%s%d", id, len(w.apps)), id, 1+w.Steps.IntN(5)),
		w:   w, start: time.Now(), rate: 0.9 + 0.2*w.Steps.Float64(), open: map[int]*deed{},
	}
	a.cfg = libcluster.Config{
		Key: "mailer", ID: id, Workers: a.Wants, Mode: of.mode, Partitions: of.partitions,
		Registry: witness{a}, OnRebalance: a.onRebalance, OnStuck: func() { w.Locked(func() { w.Happened("stuck") }) },
		Logger: w.Logger(a), TTL: ttls[w.Steps.IntN(len(ttls))], DrainTimeout: drains[w.Steps.IntN(len(drains))],
	}
	if w.ttl > 0 {
		a.cfg.TTL = w.ttl
	}
	if of != w.scheme {
		a.cfg.TTL = longestTTL
	}
	a.functions = functions{ending: newEnding(), done: map[int]int64{}, over: map[through]bool{}}
	a.take(w.drawStyle(of), of)
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
	return a.InStay && (a.Joined || a.Busy) && !a.Crashed() && a.cfg.Partitions == a.w.partitions &&
		!errors.Is(a.Err(), libcluster.ErrInstanceTaken) && !errors.As(a.Err(), new(*libcluster.ModeError))
}

// called counts the calls of its methods that have not returned.
func (a *app) called(n int) {
	a.calls += n
	a.Busy = a.calls > 0
}

// do calls a method in a goroutine of its own; an app has one at a time, but for leaveBeside.
func (a *app) do(what string, patience time.Duration, call func(context.Context) error, after func(error)) {
	a.w.Say("%s: %s within %v", a, what, patience)
	a.called(1)
	a.w.Running.Go(func() {
		ctx, cancel := a.w.patience(patience)
		defer cancel()
		err := call(ctx)
		a.w.Locked(func() {
			a.called(-1)
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
	if d == 0 {
		cancel()
		return ctx, cancel
	}
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
	if a.run != nil {
		a.run.begin(a)
		return
	}
	a.do("Join", patience, a.Join, func(err error) {
		a.Joined = err == nil && a.leaves != a.Stay
		a.InStay = a.InStay && err == nil
	})
}

func (a *app) leave(patience time.Duration, options ...libcluster.LeaveOption) {
	leave := func(ctx context.Context) error { return a.Leave(ctx, options...) }
	if a.run != nil && a.run.over != nil {
		leave = a.run.leave(leave, a.w.Steps.IntN(2) == 0)
	}
	a.leaveBy(patience, leave)
}

func (a *app) leaveBy(patience time.Duration, leave func(context.Context) error) {
	a.Joined = false
	a.do("Leave", patience, leave, func(error) {
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
	a.callback(fmt.Sprintf("%d+%d/%d in %d", s.Index, s.Workers, s.Total, s.Generation), func() {
		a.told = s
		if !s.Active() {
			clear(a.done)
		}
		if (a.style == inRun || a.style == inWorkers) && len(a.open) > 0 {
			a.w.Fail("%s is told %v beside a function: %v", a, s, a.doing())
		}
		switch {
		case a.style != byRebalance || !s.Active():
		case a.cfg.Mode == libcluster.ModeCooperative:
			a.tellHeld(s)
		default:
			for _, d := range a.open {
				if d.of.stay == a.Stay {
					a.w.Fail("%s is told of a place before it was told to stop: %v", a, s)
				}
			}
			// A Leave that had no time to wait has said so, and no callback.
			a.stopAll()
			a.begin(a.acts(s))
			a.w.checkPlace(a, s)
		}
	}, func() {
		switch {
		case a.style != byRebalance:
		case a.cfg.Mode == libcluster.ModeCooperative:
			a.toldHeld(s)
		case !s.Active():
			a.stopAll()
		}
	})
}

// callback is any of them: what it does at its beginning, and when it is about to return.
func (a *app) callback(what string, begin, end func()) {
	w := a.w
	w.Locked(func() {
		w.Say("%s is told %s", a, what)
		w.Happened("callback")
		if a.calling {
			w.Fail("%s: two callbacks at the same time", a)
		}
		a.calling = true
		begin()
	})
	a.linger()
	w.Locked(func() {
		a.calling = false
		end()
	})
}

// acts is what it does in a state, from now on.
func (a *app) acts(s libcluster.State) acting {
	return acting{a.Name, s.Index, s.Workers, s.Total, s.Generation, a.w.stamp(), 0}
}

func (a *app) begin(what acting) {
	if late := time.Since(a.view.deadline); late > rounding {
		a.w.Fail("%s begins %v after its deadline: %v", a, late, what)
	}
	a.open[what.index] = &deed{what, a.view}
	if token, done := a.done[what.index]; done && (token == 0 || token == what.generation) {
		a.w.Fail("%s begins again with what a function has done: %v", a, what)
	}
	delete(a.done, what.index)
	a.w.Happened(a.style.acted())
}

func (a *app) stop(index int) {
	if d := a.open[index]; d != nil {
		a.w.noteActs(d.until(a.w.stamp()))
		delete(a.open, index)
	}
}

func (a *app) stopAll() {
	for _, index := range a.doing() {
		a.stop(index)
	}
}

// doing is what it does now.
func (a *app) doing() []int { return slices.Sorted(maps.Keys(a.open)) }

// glimpse notes that it may act by its State, of which it has not been told yet.
func (a *app) glimpse(what acting) {
	what.to = what.from + 1
	a.w.noteActs(what)
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
	if a.cfg.Mode == libcluster.ModeCooperative {
		a.sampleHeld(s)
	} else {
		a.sampleRange(s)
	}
}

func (a *app) sampleRange(s libcluster.State) {
	w := a.w
	w.checkPlace(a, s)
	var open *deed
	for _, open = range a.open { // there is one at most
	}
	switch {
	case open == nil || open.of != a.view:
		a.glimpse(a.acts(s))
	case open.index != s.Index || open.workers != s.Workers || open.total != s.Total:
		w.Fail("%s has moved without having stopped: from %v to %v", a, open.acting, s)
	case open.generation != s.Generation:
		a.stopAll()
		a.begin(a.acts(s))
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
	for _, place := range p.Assignments {
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
		for _, index := range a.doing() {
			recent = append(recent, a.open[index].until(now))
		}
	}
	if a, b, found := findOverlap(recent); found {
		w.Fail("%v, and %v", a, b)
	}
}
