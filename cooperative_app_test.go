package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/libcluster/libcluster"
)

// run is how an app stays that does not join by itself: in Run, or one like it.
type run struct {
	call func(context.Context) error
	stop context.CancelFunc
	over chan struct{} // closed when call has returned; nil: it has never been called
}

// begin calls Run, which ends when the app leaves.
func (r *run) begin(a *app) {
	w := a.w
	ctx, stop := a.drawContext()
	over := make(chan struct{})
	r.stop, r.over = stop, over
	a.Joined = true // it tries for as long as it takes
	w.Say("%s: %s", a, a.style)
	w.Running.Go(func() {
		err := errGone
		defer close(over)
		defer stop()
		defer w.Locked(func() {
			w.Say("%s: %s: %v", a, a.style, err)
			a.ranUntil(ctx, err)
			a.InStay, a.Joined = false, false
			if a.State().Active() || len(a.open) > 0 {
				w.Fail("%s runs no more, and acts on %v: %v", a, a.doing(), a.State())
			}
		})
		err = r.call(ctx)
	})
}

// leave ends Run by its context, or by the call of Leave that is given.
func (r *run) leave(leave func(context.Context) error, stops bool) func(context.Context) error {
	stop, over := r.stop, r.over
	return func(ctx context.Context) (err error) {
		if stops {
			stop()
		} else {
			err = leave(ctx)
		}
		<-over
		return err
	}
}

// work is the function of each partition. If the app's callbacks are slow, so are those of
// every third partition, or of all.
func (a *app) work(ctx context.Context, p libcluster.Partition) error {
	w := a.w
	if a.style == besidePrimary && p.Number == 0 {
		return a.idle(ctx, libcluster.State{}) // the function of WithPrimary acts on that
	}
	var of *incarnation
	w.Locked(func() {
		a.begins(p)
		of = a.view
	})
	end := a.awaitEnd(ctx, p.Number)
	lingers := false
	w.Locked(func() {
		if errors.Is(context.Cause(ctx), libcluster.ErrRebalanced) {
			w.checkMoved(of, p)
		}
		a.fenced(p)
		lingers = a.Stay%3 == 0 || (p.Number+a.Stay)%3 == 0
	})
	if lingers {
		a.linger()
	}
	w.Locked(func() {
		w.Happened("function")
		a.stop(p.Number)
		a.returns(ctx, end, p.Number, p.Token, p.Number)
	})
	return a.outcome(ctx, end)
}

func (a *app) onGranted(ps []libcluster.Partition) {
	a.callback(fmt.Sprintf("granted %v", ps), func() {
		for _, p := range ps {
			if a.style == byGrants {
				a.begins(p)
			}
		}
	}, func() {})
}

func (a *app) onRevoked(ps []libcluster.Partition) {
	a.callback(fmt.Sprintf("revoked %v", ps), func() {
		for _, p := range ps {
			if a.Joined && a.style == byGrants {
				a.w.checkMoved(a.open[p.Number].of, p)
			}
			a.fenced(p)
		}
	}, func() { a.stopEach("revoked", ps) })
}

func (a *app) onLost(ps []libcluster.Partition) {
	a.callback(fmt.Sprintf("lost %v", ps), func() {}, func() { a.stopEach("lost", ps) })
}

func (a *app) stopEach(what string, ps []libcluster.Partition) {
	if a.style != byGrants {
		return
	}
	for _, p := range ps {
		if d := a.open[p.Number]; d == nil || d.generation != p.Token {
			a.w.Fail("%s has %s %v, and has %v", a, what, p, d)
		}
		a.w.Happened(what)
		a.stop(p.Number)
	}
}

// begins notes that it acts on a partition from now on.
func (a *app) begins(p libcluster.Partition) {
	w := a.w
	if d := a.open[p.Number]; d != nil {
		w.Fail("%s begins with %v, and has not stopped %v", a, p, d.acting)
	}
	one := place{p.Number, p.Of}
	// Run begins anew with what it has kept, and so does a function after an error.
	last := w.tokens[one]
	again := p.Token == last.token && last.to == a && (a.style == inRun || a.restarts)
	if p.Token <= last.token && !again {
		w.Fail("%s begins with %v by a token that is not above %d", a, p, last.token)
	}
	w.tokens[one] = given{p.Token, a}
	a.begin(a.actsOn(p))
}

func (a *app) actsOn(p libcluster.Partition) acting {
	return acting{a.Name, p.Number, 1, p.Of, p.Token, a.w.stamp(), 0}
}

// sampleHeld wants an active state to hold what a plan says, and notes what it has not been
// told of yet.
func (a *app) sampleHeld(s libcluster.State) {
	w := a.w
	keeps := w.plans[s.Generation].Keeps[a.view.Incarnation()]
	var numbers []int
	for p := range s.Held() {
		numbers = append(numbers, p.Number)
		if p.Number%4 == a.Stay%4 {
			a.fenced(p)
		}
		switch d := a.open[p.Number]; {
		case !s.Holds(p.Number):
			w.Fail("%s has %v and does not hold it", a, p)
		case d == nil || d.of != a.view:
			a.glimpse(a.actsOn(p))
		case d.generation != p.Token:
			w.Happened("granted anew before it has stopped")
			a.glimpse(a.actsOn(p))
		}
	}
	if want := slices.Collect(keeps.Partitions()); !slices.Equal(numbers, want) {
		w.Fail("%s holds %v in generation %d, and the plan says %v", a, numbers, s.Generation, want)
	}
}

// checkMoved wants a partition that is being stopped, though the incarnation goes on, to have
// been released by a plan since it was granted.
func (w *world) checkMoved(of *incarnation, p libcluster.Partition) {
	w.Happened("partition moves")
	for generation, plan := range w.plans {
		if generation > p.Token && !plan.Keeps[of.Incarnation()].Holds(p.Number) {
			return
		}
	}
	w.Fail("%s stops %v, which no plan has moved", of.a, p)
}

// checkReleased wants what an incarnation says that it has released to be stopped.
func (s *incarnation) checkReleased(said note) {
	w := s.a.w
	plan := w.plans[said.generation]
	but, err := libcluster.ReadPartitions(said.remaining, plan.Total)
	if err != nil {
		w.Fail("%s has not stopped %q: %v", s.a, said.remaining, err)
	}
	if said.remaining != "" {
		w.Happened("partly released")
	}
	for _, n := range s.a.doing() {
		if d := s.a.open[n]; d.of == s && plan.Releases[s.Incarnation()].Holds(n) && !but.Holds(n) {
			w.Fail("%s says that it has stopped %d and has not: %v", s.a, n, d.acting)
		}
	}
}

// hasItsShare tells whether an app has what it is to have when nothing is wrong.
func (a *app) hasItsShare() bool {
	w, s := a.w, a.State()
	if !w.cooperates() {
		return s.Active()
	}
	total := 0
	for _, b := range w.apps {
		if b.shouldBeActive() {
			total += b.Wants
		}
	}
	off := len(slices.Collect(s.Held()))*total - w.partitions*a.Wants
	return -total < off && off < total
}

// checkShares wants each partition to be held, and worked on if there are functions for it.
func (w *world) checkShares() {
	held := make([]int, w.partitions)
	there := false
	for _, a := range w.apps {
		there = there || a.shouldBeActive()
		var numbers []int
		for p := range a.State().Held() {
			held[p.Number]++
			numbers = append(numbers, p.Number)
		}
		if a.shouldBeActive() {
			a.checkActs(numbers)
		}
	}
	for n, times := range held {
		if there && times != 1 {
			w.Fail("partition %d is held %d times", n, times)
		}
	}
	if p, err := libcluster.ReadPlan(w.Plan(simulated)); there && (err != nil || !p.Committed) {
		w.Fail("the last plan is %+v: %v", p, err)
	}
}

// checkTokens wants tokens to have grown.
func (w *world) checkTokens() {
	each := map[place][]acting{}
	for _, a := range w.acts {
		one := place{} // all ranges: what they are, changes with each generation
		if w.cooperates() {
			one = place{a.index, a.total}
		}
		each[one] = append(each[one], a)
	}
	for _, acts := range each {
		if a, b, found := findStaleToken(acts); found {
			w.Fail("%v, and later %v", a, b)
		}
	}
}
