package simulator

import (
	"context"
	"errors"
	"time"

	"github.com/libcluster/libcluster/libclustertest"
)

// Latest is how late a request may be.
const Latest = 8 * time.Second

// Weather is what the calls of one app meet on their way: the chances of each fault,
// in percent.
type Weather struct {
	Fail, LoseRequest, LoseAnswer, Late, Twice, Slow int

	Slowest time.Duration
	Steady  bool              // every way takes exactly the slowest
	Only    libclustertest.Op // if set, only these calls meet a fault
}

// ErrDown is what a call returns that has failed without any effect.
var ErrDown = errors.New("simulation: the registry is down")

var errReset = errors.New("simulation: the connection was reset")

// The faults that a call can meet, but for taking long.
const (
	failure     = "error"
	requestLost = "request lost"
	answerLost  = "answer lost"
	requestLate = "request late"
	sentTwice   = "request twice"
)

// FaultsOf are the kinds that have happened when calls of these operations have met
// each fault.
func FaultsOf(ops ...libclustertest.Op) (kinds []string) {
	for _, op := range ops {
		faults := []string{failure, requestLost, answerLost, requestLate, sentTwice}
		if Waits(op) {
			faults = faults[:2]
		}
		for _, fault := range faults {
			kinds = append(kinds, fault+" of "+string(op))
		}
	}
	return kinds
}

// Waits tells which calls wait for a change, and so change nothing themselves.
func Waits(op libclustertest.Op) bool {
	return op == libclustertest.OpNext || op == libclustertest.OpSurvey
}

// Way is the way of a call of an app to the registry and back. It is called by what
// the registry has as its Intercept; send lets the call have its effect, and is told
// whether that is long after its caller has given up.
func (w *World) Way(ctx context.Context, a *App, call libclustertest.Call, send func(ctx context.Context, late bool) error) error {
	w.Trace("%s calls %s", a, call.Op)
	defer w.Trace("%s has called %s", a, call.Op)
	if err := w.delay(ctx, a, w.takes(a)); err != nil {
		return err
	}
	fault, after := w.meet(a, call)
	switch fault {
	case failure:
		return ErrDown
	case requestLost:
		return w.hang(ctx, a)
	case requestLate:
		time.AfterFunc(after, func() { _ = send(context.Background(), true) })
		return w.hang(ctx, a)
	case sentTwice:
		_ = send(ctx, false)
	}
	err := send(ctx, false)
	if fault == answerLost {
		return w.hang(ctx, a)
	}
	if late := w.delay(ctx, a, w.takes(a)); late != nil {
		return late
	}
	return err
}

// meet draws the fault that a call meets, and how late a late one is.
func (w *World) meet(a *App, call libclustertest.Call) (fault string, after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.Sky.Only != "" && a.Sky.Only != call.Op {
		return "", 0
	}
	n := w.weather.IntN(100)
	for _, f := range []struct {
		fault   string
		percent int
	}{
		{failure, a.Sky.Fail},
		{requestLost, a.Sky.LoseRequest},
		{answerLost, a.Sky.LoseAnswer},
		{requestLate, a.Sky.Late},
		{sentTwice, a.Sky.Twice},
	} {
		if n -= f.percent; n >= 0 {
			continue
		}
		if Waits(call.Op) && f.fault != failure && f.fault != requestLost {
			return "", 0 // a watch that is told late or twice is another fault: slow
		}
		w.Happened(f.fault + " of " + string(call.Op))
		if f.fault == requestLate {
			after = time.Duration(w.weather.Int64N(int64(Latest)))
		}
		return f.fault, after
	}
	return "", 0
}

// takes draws how long a request or an answer is under way.
func (w *World) takes(a *App) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case a.Sky.Steady:
		return a.Sky.Slowest
	case w.weather.IntN(100) < a.Sky.Slow:
		w.Happened("slow")
		return time.Duration(w.weather.Int64N(int64(a.Sky.Slowest)))
	}
	return 0
}

// delay waits, but not after faults have ended, nor ever for one who has crashed.
func (w *World) delay(ctx context.Context, a *App, d time.Duration) error {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-w.Calm:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if a.Crashed() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

// hang has a call wait for an answer that does not come.
func (w *World) hang(ctx context.Context, a *App) error {
	calm := w.Calm
	if a.Crashed() {
		calm = nil
	}
	select {
	case <-calm:
		return errReset
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// StepWeather changes what calls meet, or cuts and heals.
func (w *World) StepWeather(a *App) {
	percent := func(most int) int { return max(0, w.Steps.IntN(2*most)-most) }
	switch n := w.Steps.IntN(100); {
	case n < 25:
		w.Say("cut %s", a.ID)
		w.Happened("cut")
		w.Cut(a.ID)
	case n < 50:
		w.Say("heal %s", a.ID)
		w.Happened("heal")
		w.Heal(a.ID)
	case n < 55:
		w.Say("cut all")
		w.Happened("cut all")
		w.CutAll()
	case n < 65:
		w.Say("heal all")
		w.Happened("heal all")
		w.HealAll()
	case n < 75:
		w.Say("%s: fine weather", a)
		a.Sky = Weather{}
	default:
		a.Sky = Weather{
			Fail: percent(20), LoseRequest: percent(10), LoseAnswer: percent(10),
			Late: percent(10), Twice: percent(20), Slow: percent(100),
			Slowest: w.Draw(3*time.Second) + 1,
		}
		w.Say("%s: weather %+v", a, a.Sky)
	}
}
