package simulation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/simulator"
)

// cluster is the one that all apps join.
const cluster = "mailer/production"

// app is an application with one instance: what it does, and what it was told.
type app struct {
	*simulator.App
	w   *world
	cfg libcluster.Config

	// Guarded by the world's lock.
	leaving  time.Time
	gone     time.Time // when Leave has returned
	orphans  int       // attempts to join that may have happened, without an answer
	rivals   int       // others that have taken the ID, in this stay
	restores int       // how often the store had gone back when its stay began

	view *incarnation // the one that State is of: the latest that was told of a change
	// recorded is the latest whose record was written; it may not have been told of anything yet.
	recorded *incarnation
	eras     map[int64][]int // of each generation that it was told of

	toldOf *incarnation // the one whose place it was told of last

	read     mark // what State returned last
	calling  bool
	calls    []libcluster.State // of this stay
	returned int                // of those
	news     []string           // what a story has not told yet
	toldMark mark
	repeated bool // it was told the same again
	owed     bool // its last callback has outlived its stay, and the one after that has not come yet
}

// mark is a state's place in history.
type mark struct {
	era        int
	generation int64
}

// add makes an app, which does nothing yet.
func (w *world) add(name string, cfg libcluster.Config) *app {
	a := &app{App: w.NewApp(name, cfg.ID, cfg.Workers), w: w, eras: map[int64][]int{}}
	cfg.Key, cfg.Registry, cfg.OnRebalance = "mailer", witness{a}, a.onRebalance
	cfg.Logger = w.Logger(a)
	a.cfg = cfg
	var err error
	if a.Cluster, err = libcluster.New(cfg); err != nil {
		panic(err)
	}
	w.apps = append(w.apps, a)
	return a
}

// opens makes the incarnation for an attempt to join the registry.
func (a *app) opens() *incarnation {
	var s *incarnation
	a.w.Locked(func() {
		s = &incarnation{a: a, stay: a.Stay, restores: a.restores, rejoins: a.view != nil && a.view.stay == a.Stay}
		if !a.InStay {
			a.w.Fail("%s joins the registry while it is not in the cluster", a)
		}
		if a.view != nil && a.view.stay == a.Stay && errors.Is(a.Err(), libcluster.ErrInstanceTaken) {
			a.w.Fail("%s fights for its ID", a)
		}
	})
	return s
}

// do calls a method in a goroutine of its own; an app has one at a time.
func (a *app) do(what string, patience time.Duration, call func(context.Context) error, after func(error)) {
	a.w.Say("%s: %s within %v", a, what, patience)
	a.Busy = true
	a.w.Running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := call(ctx)
		a.w.Locked(func() {
			a.Busy = false
			a.w.Say("%s: %s: %v", a, what, err)
			a.news = append(a.news, fmt.Sprintf("%s has returned: %v", what, err))
			if ctx.Err() != nil {
				if strings.HasPrefix(what, "SetWorkers") {
					what = "SetWorkers" // of whatever number
				}
				a.w.Happened("context ended in " + what)
			}
			after(err)
		})
	})
}

func (a *app) join(patience time.Duration) {
	a.Stay++
	a.InStay, a.Joined, a.leaving, a.rivals = true, false, time.Time{}, 0
	a.calls, a.returned, a.repeated, a.orphans, a.restores = nil, 0, false, 0, a.w.restores
	a.toldOf = nil
	a.do("Join", patience, a.Join, func(err error) {
		if err == nil {
			a.Joined = true
			if a.returned == 0 {
				a.w.Fail("%s: Join returned before the first callback", a)
			}
			return
		}
		a.InStay = false
		a.owe()
		a.checkGone()
	})
}

func (a *app) leave(patience time.Duration) { a.leaveAs("Leave", patience) }

func (a *app) leaveReturning(d, patience time.Duration) {
	a.leaveAs("Leave(Returning)", patience, libcluster.Returning(d))
}

func (a *app) leaveAs(how string, patience time.Duration, options ...libcluster.LeaveOption) {
	a.Joined, a.leaving = false, time.Now()
	a.do(how, patience, func(ctx context.Context) error { return a.Leave(ctx, options...) }, func(err error) {
		a.InStay, a.gone = false, time.Now()
		a.owe()
		if a.State().Active() || !errors.Is(a.Err(), libcluster.ErrLeft) {
			a.w.Fail("%s has left and is active: %v, %v", a, a.State(), a.Err())
		}
		if err != nil {
			a.orphans++ // its record expires only
			return
		}
		if len(a.calls) > 0 && (a.calls[len(a.calls)-1].Index != -1 || a.calling) {
			a.w.Fail("%s has left and its last callback was not index -1: %v", a, a.calls)
		}
		if how == "Leave" {
			a.checkGone()
		}
	})
}

// owe notes that a callback has outlived its stay: that the place is lost comes after it.
func (a *app) owe() {
	if n := len(a.calls); n > 0 && a.calls[n-1].Active() {
		a.owed = true
	}
}

// checkGone wants the record gone at once, but for one that the app cannot know
// of, or could not remove: because nobody answered, or because a callback had used
// up the time for it.
func (a *app) checkGone() {
	if a.orphans == 0 && a.w.owners[a.ID] == a && a.w.Holds(cluster, a.ID) && a.w.restores == 0 {
		a.w.Fail("%s has left and its record is there still", a)
	}
}

func (a *app) setWorkers(n int, patience time.Duration) {
	a.Wants = n
	before := a.view
	a.do(fmt.Sprintf("SetWorkers(%d)", n), patience,
		func(ctx context.Context) error { return a.SetWorkers(ctx, n) },
		func(err error) {
			if err != nil || !a.Joined || a.view != before || a.view.tampered || !a.State().Active() {
				return
			}
			if before.overtaken || !a.fences() && !a.w.Holds(cluster, a.ID) {
				return // undone by a request that arrived late, or expired without the app knowing
			}
			if _, workers, _ := stateOf(a.ID, true, a.w.Members(cluster)); workers != n {
				a.w.Fail("%s: SetWorkers(%d) has returned, and the registry has %d", a, n, workers)
			}
		})
}

// onRebalance is the callback.
func (a *app) onRebalance(s libcluster.State) {
	var slow func()
	stay := 0
	a.w.Locked(func() {
		stay = a.Stay
		if a.owed {
			stay, a.owed = 0, false
			a.checkOwed(s)
			a.calling = true
			return
		}
		a.w.Say("%s is told %d+%d/%d in %d", a, s.Index, s.Workers, s.Total, s.Generation)
		a.w.Happened("callback")
		a.checkCallback(s)
		a.calling = true
		a.calls = append(a.calls, s)
		a.news = append(a.news, "is told "+placeOf(s))
		slow = a.Slow
	})
	if slow != nil {
		slow()
	}
	a.w.Locked(func() {
		a.calling = false
		if a.Stay == stay {
			a.returned++
		}
	})
}
