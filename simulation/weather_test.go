package simulation

import (
	"context"
	"errors"
	"time"

	"github.com/libcluster/libcluster/libclustertest"
)

// weather is what the calls of one app meet on their way: the chances of each
// fault, in percent.
type weather struct {
	fail, loseRequest, loseAnswer, late, twice, slow int

	slowest time.Duration
	steady  bool              // every way takes exactly the slowest
	only    libclustertest.Op // if set, only these calls meet a fault
}

var (
	errDown  = errors.New("simulation: the registry is down")
	errReset = errors.New("simulation: the connection was reset")
)

// meet draws the fault that a call meets. The caller holds world.mu.
func (w *world) meet(a *app, call libclustertest.Call) (fault string) {
	if a.sky.only != "" && a.sky.only != call.Op {
		return ""
	}
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
			if call.Op == libclustertest.OpNext && f.fault != "error" && f.fault != "request lost" {
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
		if a.sky.steady {
			d = a.sky.slowest
		} else if w.weatherly.IntN(100) < a.sky.slow {
			w.happened("slow")
			d = time.Duration(w.weatherly.Int64N(int64(a.sky.slowest)))
		}
	})
	return d
}

// intercept is the way of each call of each app to the registry and back.
func (w *world) intercept(ctx context.Context, call libclustertest.Call) error {
	s := ctx.Value(key{}).(*incarnation)
	w.trace("%s calls %s", s.a, call.Op)
	defer w.trace("%s has called %s", s.a, call.Op)
	if err := w.delay(ctx, s.a, w.takes(s.a)); err != nil {
		return err
	}
	var fault string
	w.locked(func() { fault = w.meet(s.a, call) })
	switch fault {
	case "error":
		return errDown
	case "request lost":
		return w.hang(ctx, s.a)
	case "request late":
		var after time.Duration
		w.locked(func() { after = time.Duration(w.weatherly.Int64N(int64(8 * time.Second))) })
		time.AfterFunc(after, func() { _ = w.send(context.Background(), s, call, true) })
		return w.hang(ctx, s.a)
	case "request twice":
		_ = w.send(ctx, s, call, false)
	}
	err := w.send(ctx, s, call, false)
	if fault == "answer lost" {
		return w.hang(ctx, s.a)
	}
	if late := w.delay(ctx, s.a, w.takes(s.a)); late != nil {
		return late
	}
	return err
}

// send lets a call have its effect. What changes the registry does so alone, so
// that who was a member at which revision is known.
func (w *world) send(ctx context.Context, s *incarnation, call libclustertest.Call, late bool) (err error) {
	if call.Op == libclustertest.OpNext {
		err = call.Send(ctx)
		w.locked(w.note)
		return err
	}
	w.locked(func() {
		w.note()
		if call.Op == libclustertest.OpJoin {
			err = w.sendJoin(ctx, s, call)
		} else {
			err = call.Send(ctx)
		}
		if err == nil && call.Op == libclustertest.OpUpdate {
			s.overtaken = late
		}
		w.note()
	})
	return err
}

// sendJoin also sees to it that nobody takes an ID back.
func (w *world) sendJoin(ctx context.Context, s *incarnation, call libclustertest.Call) error {
	id, held := s.a.id, w.Holds(cluster, s.a.id)
	owner, known := w.owners[id]
	known = known && s.restores == w.restores // in a store that has gone back nobody can tell whose record it is
	err := call.Send(ctx)
	if err != nil || s.a.cfg.Passive {
		return err
	}
	if held && known && owner != s.a && s.rejoins {
		w.fail("%s took its ID back from %s", s.a, owner)
	}
	if s.stay < s.a.stay {
		// A request of an earlier stay that arrives only now looks like that of
		// another instance.
		w.happened("join of an earlier stay")
		s.a.rivals++
	}
	w.owners[id] = s.a
	w.tampered(id, s)
	return nil
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
	select {
	case <-a.crashed:
		<-ctx.Done()
		return context.Cause(ctx)
	default:
		return nil
	}
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
