package libcluster_test

import (
	"context"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/simulator"
	"github.com/libcluster/libcluster/libclustertest"
)

// doom is what befalls an app at one of its next calls: it dies, or stands still,
// just before or just after the call has had its effect.
type doom struct {
	op    libclustertest.Op
	after bool
	pause time.Duration // 0: it dies
}

// meetDoom has an app die or stand still. One that stands still does not notice
// that its time is over, either.
func (w *world) meetDoom(a *app, op libclustertest.Op, after bool) {
	var pause time.Duration
	w.Locked(func() {
		d := a.doom
		if d == nil || d.op != op || d.after != after {
			return
		}
		a.doom = nil
		when := map[bool]string{false: " before ", true: " after "}[after]
		if d.pause == 0 {
			w.Happened("dies" + when + string(op))
			a.Crash()
			return
		}
		w.Say("%s stands still%s%s for %v", a, when, op, d.pause)
		w.Happened("stands still" + when + string(op))
		pause = d.pause
	})
	if pause > 0 {
		select {
		case <-time.After(pause):
		case <-w.Calm:
		}
	}
}

// intercept is the way of each call of each app to the registry and back.
func (w *world) intercept(ctx context.Context, call libclustertest.Call) error {
	s := ctx.Value(caller{}).(*incarnation)
	said, _ := ctx.Value(noting{}).(note)
	w.meetDoom(s.a, call.Op, false)
	return w.Way(ctx, s.a.App, call, func(ctx context.Context, late bool) error {
		err := w.send(ctx, s, call, said)
		if !late {
			w.meetDoom(s.a, call.Op, true)
		}
		return err
	})
}

// send lets a call have its effect. One that changes the registry does so alone, so
// that every plan that there ever was is known.
func (w *world) send(ctx context.Context, s *incarnation, call libclustertest.Call, said note) (err error) {
	if simulator.Waits(call.Op) {
		err = call.Send(ctx)
		w.Locked(w.sample)
		return err
	}
	w.Locked(func() {
		w.sample()
		err = call.Send(ctx)
		switch {
		case err != nil:
		case call.Op == libclustertest.OpSwap:
			w.notePlan()
		case call.Op == libclustertest.OpAcknowledge:
			s.checkNote(said)
		}
	})
	return err
}

// checkNote wants what an incarnation says that it has stopped to be so.
func (s *incarnation) checkNote(said note) {
	if s.a.cfg.Mode == libcluster.ModeCooperative {
		s.checkReleased(said)
	} else if s.acts() {
		s.a.w.Fail("%s says that it has stopped and has not", s.a)
	}
}

// lateSwap is how late the plan of a coordinator may come that has stood still. It can
// be older than one that somebody has undone meanwhile.
const lateSwap = 30 * time.Second

func (w *world) notePlan() {
	text := w.Plan(simulated)
	p, err := libcluster.ReadPlan(text)
	if err != nil {
		w.Fail("a plan that is none: %v", err)
	}
	if p.Generation <= w.generation && time.Since(w.back) > lateSwap {
		w.Fail("generation %d after %d", p.Generation, w.generation)
	}
	if w.texts[p.Generation] != "" {
		w.Fail("two plans of generation %d", p.Generation)
	}
	w.texts[p.Generation] = text
	w.generation = max(w.generation, p.Generation)
	w.Happened(map[bool]string{false: "prepare", true: "commit"}[p.Committed])
	if p.Committed || w.cooperates() {
		w.plans[p.Generation] = p
	}
	w.oldPlans = append(w.oldPlans, text)
}
