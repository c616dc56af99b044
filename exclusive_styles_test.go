package libcluster_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/simulator"
)

// style is by which part of the API an app knows what it may act on. Whatever its style, its
// State is read at each event of the registry (see sample), and what that says counts for this
// moment. So reading State is no style of its own, nor is waiting for Changed: no instance
// waits until such an app has looked.
type style string

const (
	byRebalance   style = "OnRebalance" // until the next call has returned
	byGrants      style = "OnGranted"
	byPrimary     style = "OnPrimary"
	inRun         style = "Run"
	inWorkers     style = "RunWorkers"
	inPartitions  style = "RunPartitions"
	inPrimary     style = "RunPrimary"
	besidePrimary style = "WithPrimary"
)

func exclusiveStyles() []style {
	return []style{byRebalance, byPrimary, inRun, inWorkers, inPrimary, besidePrimary}
}

func cooperativeStyles() []style {
	return []style{byRebalance, byGrants, byPrimary, inRun, inPartitions, inPrimary, besidePrimary}
}

// acted is what has happened when an app of this style has acted.
func (s style) acted() string { return "acted by " + string(s) }

func actedBy(styles []style) (kinds []string) {
	for _, s := range styles {
		kinds = append(kinds, s.acted())
	}
	return append(kinds, returnedBy(styles)...)
}

// ofPrimary tells whether apps of this style act as the primary only.
func (s style) ofPrimary() bool { return s == byPrimary || s == inPrimary }

// drawStyle draws the style of an app in a scheme. In odd seeds there are only the styles that
// there were first: the seeds that have once failed are odd, and stay what they were.
func (w *world) drawStyle(of scheme) style {
	styles := []style{byRebalance}
	switch {
	case w.primaries:
		styles = []style{byPrimary, inPrimary, besidePrimary}
	case w.styled && of.cooperates():
		styles = cooperativeStyles()
	case w.styled:
		styles = exclusiveStyles()
	case of.cooperates():
		styles = []style{inPartitions, byGrants}
	}
	if len(styles) == 1 {
		return styles[0]
	}
	return styles[w.Steps.IntN(len(styles))]
}

// take has an app act in its style. With styles, it has callbacks that only take time, too.
func (a *app) take(s style, of scheme) {
	a.style = s
	if a.w.styled {
		a.cfg.OnPrimary = a.onPrimary
	}
	if of.cooperates() && (a.w.styled || s == byGrants) {
		a.cfg.OnGranted, a.cfg.OnRevoked, a.cfg.OnLost = a.onGranted, a.onRevoked, a.onLost
	}
	var call func(context.Context, ...libcluster.RunOption) error
	var options []libcluster.RunOption
	switch {
	case s == inRun:
		call = func(ctx context.Context, o ...libcluster.RunOption) error { return a.Run(ctx, a.whole, o...) }
	case s == inWorkers:
		call = func(ctx context.Context, o ...libcluster.RunOption) error { return a.RunWorkers(ctx, a.worker, o...) }
	case s == inPartitions:
		call = func(ctx context.Context, o ...libcluster.RunOption) error { return a.RunPartitions(ctx, a.work, o...) }
	case s == inPrimary:
		call = func(ctx context.Context, o ...libcluster.RunOption) error { return a.RunPrimary(ctx, a.whole, o...) }
	case s == besidePrimary && of.cooperates():
		call = func(ctx context.Context, o ...libcluster.RunOption) error { return a.RunPartitions(ctx, a.work, o...) }
		options = append(options, libcluster.WithPrimary(a.whole))
	case s == besidePrimary:
		call = func(ctx context.Context, o ...libcluster.RunOption) error { return a.Run(ctx, a.idle, o...) }
		options = append(options, libcluster.WithPrimary(a.whole))
	default:
		return
	}
	if a.w.styled {
		options = append(options, a.drawOptions()...)
	}
	a.run = &run{call: func(ctx context.Context) error { return call(ctx, options...) }}
}

// whole is the function of Run, RunPrimary and WithPrimary.
func (a *app) whole(ctx context.Context, s libcluster.State) error {
	var begun []int
	a.w.Locked(func() { begun = a.beginsIn(s) })
	end := a.awaitEnd(ctx, 0)
	a.linger()
	a.w.Locked(func() {
		for _, index := range begun {
			a.stop(index)
		}
		a.returns(ctx, end, 0, tokenOf(s, 0), begun...)
	})
	return a.outcome(ctx, end)
}

// idle is a function beside that of WithPrimary, which does all that is done.
func (a *app) idle(ctx context.Context, _ libcluster.State) error {
	end := a.awaitEnd(ctx, beside)
	a.linger()
	a.w.Locked(func() { a.ends(ctx, end, beside) })
	return a.outcome(ctx, end)
}

// worker is the function of RunWorkers. They act from when the first of them begins until the
// last one has returned.
func (a *app) worker(ctx context.Context, n int, s libcluster.State) error {
	a.w.Locked(func() {
		if a.working++; a.working == 1 {
			a.beginsIn(s)
		}
		if d := a.open[s.Index]; d == nil || n < s.Index || n >= s.Index+s.Workers {
			a.w.Fail("%s runs worker %d in %v, and does %v", a, n, s, d)
		}
	})
	end := a.awaitEnd(ctx, n)
	a.linger()
	a.w.Locked(func() {
		if a.working--; a.working == 0 {
			a.stop(s.Index)
		}
		a.returns(ctx, end, n, 0)
	})
	return a.outcome(ctx, end)
}

// beginsIn notes that it acts in a state from now on, or as the primary of that state if that
// is its style. It returns the first indexes.
func (a *app) beginsIn(s libcluster.State) (begun []int) {
	if a.cfg.Mode == libcluster.ModeExclusive {
		for _, d := range a.open {
			a.w.Fail("%s begins in %v, and has not stopped %v", a, s, d.acting)
		}
		a.begin(a.acts(s))
		a.w.checkPlace(a, s)
		return []int{s.Index}
	}
	for p := range s.Held() {
		if a.style == inRun || p.Number == 0 {
			a.begins(p)
			begun = append(begun, p.Number)
		}
	}
	return begun
}

// onPrimary has it act on what it was told of just before.
func (a *app) onPrimary(primary bool) {
	acts := a.style == byPrimary
	a.callback(fmt.Sprint("primary ", primary), func() {
		if primary && acts {
			a.beginsIn(a.told)
		}
	}, func() {
		if !primary && acts {
			a.stop(0)
		}
	})
}

// tellHeld has an app that goes by OnRebalance in mode cooperative begin with what is new to it.
func (a *app) tellHeld(s libcluster.State) {
	for p := range s.Held() {
		if d := a.open[p.Number]; d == nil || d.generation != p.Token {
			a.begins(p)
		}
	}
}

// toldHeld has it stop what is gone.
func (a *app) toldHeld(s libcluster.State) {
	for _, n := range a.doing() {
		if !s.Holds(n) {
			a.stop(n)
		}
	}
}

// stepStyled is most of the steps in a world with styles. Where the registry suffers at each step
// few apps have anything to be told but that all is lost.
func (w *world) stepStyled() {
	a := w.apps[w.Steps.IntN(len(w.apps))]
	if w.primaries && w.Steps.IntN(2) == 0 {
		if primary := slices.IndexFunc(w.apps, func(b *app) bool { return b.State().Primary() }); primary >= 0 {
			a = w.apps[primary]
		}
	}
	switch n := w.Steps.IntN(100); {
	case n < 35:
		w.SlowCallbacks(a.App, w.Draw(2*time.Second))
		w.stepInside(a)
	case n < 40:
		w.stepEnding(a)
	case n < 44:
		w.stepOperator(a.ID)
	case n < 48:
		w.stepLeaveBeside()
	case n < 85:
		w.stepApp(a)
	case n < 90:
		w.stepNewcomer(a)
	default:
		w.Say("heal all, and fine weather")
		w.HealAll()
		for _, b := range w.apps {
			b.Sky = simulator.Weather{}
		}
	}
}

// stepInside changes what an app calls in one of its callbacks.
func (w *world) stepInside(a *app) {
	n, patience, rest := 1+w.Steps.IntN(9), w.Draw(10*time.Second)+time.Millisecond, w.Draw(5*time.Second)
	var returning []libcluster.LeaveOption
	if w.Steps.IntN(3) == 0 {
		returning = append(returning, libcluster.Returning(patience))
	}
	a.inside = []func(){
		func() {
			busy := true
			w.Locked(func() {
				if busy = a.Busy; !busy {
					a.called(1)
					a.Wants = n
				}
			})
			if !busy {
				a.callInside("SetWorkers", patience, func(ctx context.Context) error { return a.SetWorkers(ctx, n) })
				w.Locked(func() { a.called(-1) })
			}
		},
		func() {
			a.callInside("SetMetadata", patience, func(ctx context.Context) error {
				return a.SetMetadata(ctx, map[string]string{"n": fmt.Sprint(n)})
			})
		},
		func() {
			drain := func(ctx context.Context) error { return a.SetDraining(ctx, true) }
			a.callInside("SetDraining", patience, drain)
			select {
			case <-time.After(rest):
			case <-w.Calm:
			}
			a.callInside("SetDraining", patience, func(ctx context.Context) error { return a.SetDraining(ctx, false) })
		},
		func() {
			w.Locked(func() {
				if !a.Busy && a.InStay {
					w.Happened("Leave beside a callback")
					leave := func(ctx context.Context) error { return a.Leave(ctx, returning...) }
					if a.run != nil {
						leave = a.run.leave(leave, n%2 == 0)
					}
					a.leaveBy(patience, leave)
				}
			})
		},
	}[w.Steps.IntN(4)]
}

// callInside calls a method within a callback.
func (a *app) callInside(what string, patience time.Duration, call func(context.Context) error) {
	ctx, cancel := a.w.patience(patience)
	defer cancel()
	err := call(ctx)
	a.w.Locked(func() {
		a.w.Say("%s: %s within a callback: %v", a, what, err)
		a.w.Happened(what + " within a callback")
	})
}

func insideCalls() []string {
	return []string{
		"SetWorkers within a callback", "SetMetadata within a callback", "SetDraining within a callback", "Leave beside a callback",
	}
}

// linger takes as long as the app's callbacks do, and may call a method of its cluster.
func (a *app) linger() {
	var slow, inside func()
	a.w.Locked(func() { slow, inside, a.inside = a.Slow, a.inside, nil })
	for _, f := range []func(){inside, slow} {
		if f != nil {
			f()
		}
	}
}

// checkActs wants an app to act on what it holds, or if it acts as the primary on index 0.
func (a *app) checkActs(held []int) {
	if a.style.ofPrimary() || a.style == besidePrimary && !a.w.cooperates() {
		held = slices.DeleteFunc(slices.Clone(held), func(n int) bool { return n != 0 })
	}
	s := a.State()
	held = slices.DeleteFunc(slices.Clone(held), func(n int) bool { return a.isDone(s, n) })
	if !slices.Equal(held, a.doing()) {
		a.w.Fail("%s holds %v and acts on %v: %v", a, held, a.doing(), s)
	}
}
