package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/simulator"
	"github.com/libcluster/libcluster/libclustertest"
)

// functions is how the functions of an app's Run, or of one like it, end by themselves.
type functions struct {
	restarts bool
	ending   *ending          // the next
	ended    int              // the stay that a function has ended by returning
	done     map[int]int64    // what is held with this token and idle, since a function has returned nil
	over     map[through]bool // what never runs again
}

// through is a function that has returned nil, and its context.
type through struct {
	context.Context
	number int
}

// ending is when functions of an app return by themselves, and what.
type ending struct {
	come  chan struct{} // closed then; guards what follows
	err   error
	every int // 1: all functions; 2: every second; and so on
}

func newEnding() *ending { return &ending{come: make(chan struct{})} }

var (
	errFunction = errors.New("simulation: a function has failed")
	errGone     = errors.New("simulation: a function ends its goroutine")
	errStopped  = errors.New("simulation: a function could not stop properly")
)

func (e *ending) String() string {
	switch e.err {
	case nil:
		return "nil"
	case errGone:
		return "never"
	}
	return "an error"
}

// outcome is what a function returns, by itself or when it has been stopped.
func (a *app) outcome(ctx context.Context, end *ending) error {
	switch {
	case end != nil && errors.Is(end.err, errGone):
		runtime.Goexit()
	case end != nil:
		return end.err
	case a.w.styled:
		return []error{nil, errStopped, context.Cause(ctx)}[int(a.rate*1000)%3]
	}
	return nil
}

// endsRun tells whether Run, or one like it, ends when a function of this number has returned.
func (a *app) endsRun(end *ending, number int) bool {
	switch {
	case errors.Is(end.err, errGone):
		return true
	case end.err != nil:
		return !a.restarts
	case a.style == besidePrimary:
		return a.cfg.Mode == libcluster.ModeExclusive && number == beside
	}
	return a.style != inPartitions
}

// beside is the number of the function of Run beside that of WithPrimary.
const beside = 1

// drawOptions draws how Run, or one like it, goes on after an error and leaves.
func (a *app) drawOptions() (options []libcluster.RunOption) {
	w := a.w
	if w.Steps.IntN(2) == 0 {
		a.restarts = true
		least := w.Draw(time.Second) + time.Millisecond
		options = append(options, libcluster.Restart(least, least+w.Draw(5*time.Second)))
	}
	if w.Steps.IntN(4) == 0 {
		options = append(options, libcluster.Returning(w.Draw(longestTTL)+time.Second))
	}
	return options
}

// drawContext draws the context of Run, or of one like it.
func (a *app) drawContext() (context.Context, context.CancelFunc) {
	if a.w.styled && a.w.Steps.IntN(3) == 0 {
		return a.w.patience(a.w.Draw(time.Minute) + time.Millisecond)
	}
	return context.WithCancel(context.Background())
}

// drawPatience draws how long a call may take.
func (w *world) drawPatience() time.Duration {
	if w.styled {
		switch w.Steps.IntN(12) {
		case 0:
			return 0
		case 1:
			return w.Draw(20 * time.Millisecond)
		}
	}
	return w.Draw(40*time.Second) + time.Millisecond
}

// awaitEnd waits until a function is to stop, then it returns nil, or to return by itself. Its
// number tells it apart from others that run at the same time.
func (a *app) awaitEnd(ctx context.Context, number int) *ending {
	var of *incarnation
	a.w.Locked(func() {
		if of = a.view; a.over[through{ctx, number}] {
			a.w.Fail("%s: function %d runs again after it has returned nil", a, number)
		}
	})
	for {
		var next *ending
		a.w.Locked(func() { next = a.ending })
		select {
		case <-ctx.Done():
			a.w.Locked(func() {
				if late := time.Since(of.deadline); late > rounding+a.lateTimer() {
					a.w.Fail("%s: the context of function %d ends %v after the deadline", a, number, late)
				}
			})
			return nil
		case <-next.come:
			if number%next.every == 0 {
				return next
			}
		}
	}
}

// ends tells whether a function of this number is about to return by itself, and notes what that
// means for Run. One that ends its goroutine does so even if it is stopped meanwhile.
func (a *app) ends(ctx context.Context, end *ending, number int) bool {
	if end != nil && end.err == nil {
		a.over[through{ctx, number}] = true
	}
	if end == nil || ctx.Err() != nil && !errors.Is(end.err, errGone) {
		return false
	}
	if a.endsRun(end, number) {
		a.ended = a.Stay
	}
	return true
}

// outlivesNil tells whether its functions act, and a nil of one ends nothing else.
func (a *app) outlivesNil() bool { return a.style == inPartitions || a.style == besidePrimary }

// lateTimer is how late a timer of an app may be whose clock is fast: the timers of a bubble go
// by the bubble's clock.
func (a *app) lateTimer() time.Duration {
	return time.Duration(max(0, 1-1/a.rate) * float64(libcluster.Window(a.cfg.TTL)))
}

// returns notes that a function is about to return by itself, if nothing stops it meanwhile, and
// what it has acted on.
func (a *app) returns(ctx context.Context, end *ending, number int, token int64, indexes ...int) {
	if !a.ends(ctx, end, number) {
		return
	}
	a.w.Say("%s: function %d returns %v", a, number, end)
	a.w.Happened(a.returned(end))
	if end.err == nil && a.outlivesNil() {
		for _, index := range indexes {
			a.done[index] = token
		}
	}
}

func (a *app) returned(end *ending) string {
	return fmt.Sprintf("a function of %s returns %v, restarted %t", a.style, end, a.restarts)
}

// isDone tells whether what a state holds is idle, since a function has returned.
func (a *app) isDone(s libcluster.State, index int) bool {
	token, done := a.done[index]
	return done && token == tokenOf(s, index)
}

// tokenOf is that of a partition in a state; 0 in mode exclusive.
func tokenOf(s libcluster.State, number int) int64 {
	for p := range s.Held() {
		if p.Number == number {
			return p.Token
		}
	}
	return 0
}

// ranUntil notes how Run, or one like it, has ended.
func (a *app) ranUntil(ctx context.Context, err error) {
	own := err == nil || errors.Is(err, errFunction) || errors.Is(err, errStopped) || errors.Is(err, errGone)
	switch {
	case !a.Joined: // it was to leave
	case ctx.Err() != nil:
		a.w.Happened("context ended in Run")
	case !own:
	case a.ended != a.Stay:
		a.w.Fail("%s: %s has ended, and no function has returned by itself: %v", a, a.style, err)
	case err == nil:
		a.w.Happened("Run ended by itself")
	default:
		a.w.Happened("Run ended with an error")
	}
}

// stepEnding has functions of an app return by themselves: of this one, or of one after it.
func (w *world) stepEnding(a *app) {
	at := slices.Index(w.apps, a)
	for _, b := range slices.Concat(w.apps[at:], w.apps[:at]) {
		if b.run != nil && b.State().Active() {
			a = b
			break
		}
	}
	end := a.ending
	a.ending = newEnding()
	end.err = []error{nil, errFunction, errFunction, errFunction, errGone}[w.Steps.IntN(5)]
	end.every = 1 + w.Steps.IntN(3)
	w.Say("%s: functions return %v, each %d", a, end, end.every)
	close(end.come)
}

// stepOperator has an app ask as an operator does that one with this ID drains, or drains no more.
func (w *world) stepOperator(id string) {
	a, patience := w.apps[w.Steps.IntN(len(w.apps))], w.drawPatience()
	what, ask := "Drain", a.Drain
	if w.Steps.IntN(2) == 0 {
		what, ask = "Undrain", a.Undrain
	}
	if w.Steps.IntN(2) == 0 {
		a.Sky = simulator.Weather{Fail: 10, LoseRequest: 10, LoseAnswer: 15, Late: 50, Twice: 10, Only: libclustertest.OpSetDraining}
	}
	w.Say("%s: %s %s within %v", a, what, id, patience)
	w.Running.Go(func() {
		ctx, cancel := w.patience(patience)
		defer cancel()
		err := ask(ctx, id)
		w.Locked(func() {
			w.Say("%s: %s %s: %v", a, what, id, err)
			switch {
			case err == nil:
				w.Happened(what + " by an operator")
			case !errors.Is(err, libcluster.ErrLeft):
				w.Happened(what + " by an operator fails")
			}
		})
	})
}

// stepLeaveBeside has an app leave while it joins; if none does, while another Leave, or any
// other call, is under way.
func (w *world) stepLeaveBeside() {
	at := w.Steps.IntN(len(w.apps))
	returning := w.Steps.IntN(2) == 0
	var options []libcluster.LeaveOption
	if returning {
		options = append(options, libcluster.Returning(w.Draw(longestTTL)+time.Second))
	}
	patience := w.drawPatience()
	for _, joining := range []bool{true, false} {
		for i := range w.apps {
			a := w.apps[(at+i)%len(w.apps)]
			phase := a.Phase()
			joins := a.leaves != a.Stay && (a.run == nil && !a.Joined && a.Busy && phase != libcluster.PhaseLeaving ||
				a.run != nil && a.Joined && (phase == libcluster.PhaseJoining || phase == libcluster.PhaseWaiting))
			if !a.InStay || a.Crashed() || joins != joining || !joins && !a.Busy {
				continue
			}
			what := "Leave beside another call"
			switch {
			case joins && a.run != nil:
				what = "Leave while Run joins"
			case joins:
				what = "Leave while Join joins"
			case phase == libcluster.PhaseLeaving:
				what = "Leave beside another Leave"
			}
			if returning {
				what += ", returning"
			}
			w.Happened(what)
			a.leaveBeside(what, patience, options...)
			return
		}
	}
}

// leaveBeside leaves, whatever other call is under way.
func (a *app) leaveBeside(what string, patience time.Duration, options ...libcluster.LeaveOption) {
	a.Joined, a.leaves = false, a.Stay
	a.do(what, patience, func(ctx context.Context) error { return a.Leave(ctx, options...) }, func(error) {
		if a.run == nil {
			a.InStay = false
		}
		if a.State().Active() {
			a.w.Fail("%s has left and is active: %v", a, a.State())
		}
	})
}

// styledEvents are the kinds that happen only where apps have styles.
func styledEvents() []string {
	kinds := []string{
		"context ended in Run", "Run ended with an error", "Run ended by itself",
		"Drain by an operator", "Drain by an operator fails", "Undrain by an operator", "Undrain by an operator fails",
		"Leave beside another call", "Leave beside another call, returning",
	}
	for _, what := range []string{"Leave while Join joins", "Leave while Run joins", "Leave beside another Leave"} {
		kinds = append(kinds, what, what+", returning")
	}
	return append(kinds, simulator.FaultsOf(libclustertest.OpSetDraining)...)
}

// returnedBy is what has happened when functions of these styles have returned by themselves.
func returnedBy(styles []style) (kinds []string) {
	for _, s := range styles {
		switch s {
		case byRebalance, byGrants, byPrimary:
			continue
		}
		for _, err := range []error{nil, errFunction, errGone} {
			for _, restarts := range []bool{false, true} {
				a := app{style: s, functions: functions{restarts: restarts}}
				kinds = append(kinds, a.returned(&ending{err: err}))
			}
		}
	}
	return kinds
}
