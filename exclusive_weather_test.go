package libcluster_test

import (
	"context"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// weather is what the calls of one app meet on their way: the chances of each
// fault, in percent.
type weather struct {
	fail, loseRequest, loseAnswer, late, twice, slow int

	slowest time.Duration
}

// doom is what befalls an app at one of its next calls: it dies, or stands still,
// just before or just after the call has had its effect.
type doom struct {
	op    libclustertest.Op
	after bool
	pause time.Duration // 0: it dies
}

// waits tells which calls wait for a change, and so change nothing themselves.
func waits(op libclustertest.Op) bool {
	return op == libclustertest.OpNext || op == libclustertest.OpSurvey
}

// meet draws the fault that a call meets. The caller holds world.mu.
func (w *world) meet(a *app, call libclustertest.Call) (fault string) {
	n := w.weatherly.IntN(100)
	for _, f := range []struct {
		fault   string
		percent int
	}{
		{"error", a.sky.fail},
		{"request lost", a.sky.loseRequest},
		{"answer lost", a.sky.loseAnswer},
		{"request late", a.sky.late},
		{"request twice", a.sky.twice},
	} {
		if n -= f.percent; n < 0 {
			if waits(call.Op) && f.fault != "error" && f.fault != "request lost" {
				return "" // a watch that is told late or twice is another fault: slow
			}
			w.happened(f.fault + " of " + string(call.Op))
			return f.fault
		}
	}
	return ""
}

// takes draws how long a request or an answer is under way.
func (w *world) takes(a *app) (d time.Duration) {
	w.locked(func() {
		if w.weatherly.IntN(100) < a.sky.slow {
			w.happened("slow")
			d = time.Duration(w.weatherly.Int64N(int64(a.sky.slowest)))
		}
	})
	return d
}

// meetDoom has an app die or stand still. One that stands still does not notice
// that its time is over, either.
func (w *world) meetDoom(a *app, op libclustertest.Op, after bool) {
	var pause time.Duration
	w.locked(func() {
		d := a.doom
		if d == nil || d.op != op || d.after != after {
			return
		}
		a.doom = nil
		when := map[bool]string{false: " before ", true: " after "}[after]
		if d.pause == 0 {
			w.happened("dies" + when + string(op))
			a.crash()
			return
		}
		w.say("%s stands still%s%s for %v", a, when, op, d.pause)
		w.happened("stands still" + when + string(op))
		pause = d.pause
	})
	if pause > 0 {
		select {
		case <-time.After(pause):
		case <-w.calm:
		}
	}
}

// intercept is the way of each call of each app to the registry and back.
func (w *world) intercept(ctx context.Context, call libclustertest.Call) error {
	s := ctx.Value(caller{}).(*incarnation)
	a := s.a
	w.trace("%s calls %s", a, call.Op)
	defer w.trace("%s has called %s", a, call.Op)
	w.meetDoom(a, call.Op, false)
	if err := w.delay(ctx, a, w.takes(a)); err != nil {
		return err
	}
	var fault string
	w.locked(func() { fault = w.meet(a, call) })
	switch fault {
	case "error":
		return errDown
	case "request lost":
		return w.hang(ctx, a)
	case "request late":
		var after time.Duration
		w.locked(func() { after = time.Duration(w.weatherly.Int64N(int64(latest))) })
		time.AfterFunc(after, func() { _ = w.send(context.Background(), s, call) })
		return w.hang(ctx, a)
	case "request twice":
		_ = w.send(ctx, s, call)
	}
	err := w.send(ctx, s, call)
	w.meetDoom(a, call.Op, true)
	if fault == "answer lost" {
		return w.hang(ctx, a)
	}
	if late := w.delay(ctx, a, w.takes(a)); late != nil {
		return late
	}
	return err
}

// send lets a call have its effect. One that changes the registry does so alone, so
// that every plan that there ever was is known.
func (w *world) send(ctx context.Context, s *incarnation, call libclustertest.Call) (err error) {
	if waits(call.Op) {
		err = call.Send(ctx)
		w.locked(w.sample)
		return err
	}
	w.locked(func() {
		w.sample()
		err = call.Send(ctx)
		switch {
		case err != nil:
		case call.Op == libclustertest.OpSwap:
			w.notePlan()
		case call.Op == libclustertest.OpDrained && s.acts():
			w.fail("%s says that it has stopped and has not", s.a)
		}
	})
	return err
}

// lateSwap is how late the plan of a coordinator may come that has stood still. It can
// be older than one that somebody has undone meanwhile.
const lateSwap = 30 * time.Second

func (w *world) notePlan() {
	text := w.Plan(simulated)
	p, err := libcluster.ReadPlan(text)
	if err != nil {
		w.fail("a plan that is none: %v", err)
	}
	if p.Generation <= w.generation && time.Since(w.back) > lateSwap {
		w.fail("generation %d after %d", p.Generation, w.generation)
	}
	if w.texts[p.Generation] != "" {
		w.fail("two plans of generation %d", p.Generation)
	}
	w.texts[p.Generation] = text
	w.generation = max(w.generation, p.Generation)
	w.happened(map[bool]string{false: "prepare", true: "commit"}[p.Committed])
	if p.Committed {
		w.plans[p.Generation] = p
	}
	w.oldPlans = append(w.oldPlans, text)
}

// delay waits, but not after faults have ended, nor ever for one who has crashed.
func (w *world) delay(ctx context.Context, a *app, d time.Duration) error {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-w.calm:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if a.isCrashed() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

// hang has a call wait for an answer that does not come.
func (w *world) hang(ctx context.Context, a *app) error {
	calm := w.calm
	if a.isCrashed() {
		calm = nil
	}
	select {
	case <-calm:
		return errReset
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
