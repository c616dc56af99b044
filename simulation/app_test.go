package simulation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libcluster/libcluster"
)

// cluster is the one that all apps join.
const cluster = "mailer/production"

// app is an application with one instance: what it does, and what it was told.
type app struct {
	*libcluster.Cluster
	w       *world
	name    string // tells apart those that have one ID one after another
	id      string
	cfg     libcluster.Config
	crashed chan struct{} // closed when it is cut off for ever

	// Guarded by world.mu.
	sky      weather
	busy     bool // one of its methods is being called
	stay     int  // the number of its present stay; 0: it has not joined yet
	inStay   bool // from before Join until Leave has returned, or Join has failed
	joined   bool // from when Join has returned until before Leave
	leaving  time.Time
	gone     time.Time // when Leave has returned
	wants    int       // workers
	orphans  int       // attempts to join that may have happened, without an answer
	rivals   int       // others that have taken the ID, in this stay
	restores int       // how often the store had gone back when its stay began

	view *incarnation    // the one that State is of: the latest that was told of a change
	eras map[int64][]int // of each generation that it was told of

	toldOf *incarnation // the one whose place it was told of last

	read     mark // what State returned last
	slow     func()
	calling  bool
	calls    []libcluster.State // of this stay
	returned int                // of those
	news     []string           // what a story has not told yet
	toldMark mark
	repeated bool // it was told the same again
}

// mark is a state's place in history.
type mark struct {
	era        int
	generation int64
}

// add makes an app, which does nothing yet.
func (w *world) add(name string, cfg libcluster.Config) *app {
	a := &app{w: w, name: name, id: cfg.ID, wants: cfg.Workers, crashed: make(chan struct{}), eras: map[int64][]int{}}
	cfg.Key, cfg.Registry, cfg.OnRebalance = "mailer", witness{a}, a.onRebalance
	if *oneSeed > 0 {
		cfg.Logger = w.logger(a)
	}
	a.cfg = cfg
	var err error
	if a.Cluster, err = libcluster.New(cfg); err != nil {
		panic(err)
	}
	w.apps = append(w.apps, a)
	return a
}

func (a *app) String() string { return a.name }

func (a *app) isCrashed() bool {
	select {
	case <-a.crashed:
		return true
	default:
		return false
	}
}

// opens makes the incarnation for an attempt to join the registry.
func (a *app) opens() *incarnation {
	var s *incarnation
	a.w.locked(func() {
		s = &incarnation{a: a, stay: a.stay, restores: a.restores, rejoins: a.view != nil && a.view.stay == a.stay}
		if !a.inStay {
			a.w.fail("%s joins the registry while it is not in the cluster", a)
		}
		if a.view != nil && a.view.stay == a.stay && errors.Is(a.Err(), libcluster.ErrInstanceTaken) {
			a.w.fail("%s fights for its ID", a)
		}
	})
	return s
}

// do calls a method in a goroutine of its own; an app has one at a time.
func (a *app) do(what string, patience time.Duration, call func(context.Context) error, after func(error)) {
	a.w.say("%s: %s within %v", a, what, patience)
	a.busy = true
	a.w.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := call(ctx)
		a.w.locked(func() {
			a.busy = false
			a.w.say("%s: %s: %v", a, what, err)
			a.news = append(a.news, fmt.Sprintf("%s has returned: %v", what, err))
			if ctx.Err() != nil {
				if strings.HasPrefix(what, "SetWorkers") {
					what = "SetWorkers" // of whatever number
				}
				a.w.happened("context ended in " + what)
			}
			after(err)
		})
	})
}

func (a *app) join(patience time.Duration) {
	a.stay++
	a.inStay, a.joined, a.leaving, a.rivals = true, false, time.Time{}, 0
	a.calls, a.returned, a.repeated, a.orphans, a.restores = nil, 0, false, 0, a.w.restores
	a.toldOf = nil
	a.do("Join", patience, a.Join, func(err error) {
		if err == nil {
			a.joined = true
			if a.returned == 0 {
				a.w.fail("%s: Join returned before the first callback", a)
			}
			return
		}
		a.inStay = false
		a.checkGone()
	})
}

func (a *app) leave(patience time.Duration) { a.leaveAs("Leave", patience) }

func (a *app) leaveReturning(d, patience time.Duration) {
	a.leaveAs("Leave(Returning)", patience, libcluster.Returning(d))
}

func (a *app) leaveAs(how string, patience time.Duration, options ...libcluster.LeaveOption) {
	a.joined, a.leaving = false, time.Now()
	a.do(how, patience, func(ctx context.Context) error { return a.Leave(ctx, options...) }, func(err error) {
		a.inStay, a.gone = false, time.Now()
		if a.State().Active() || !errors.Is(a.Err(), libcluster.ErrLeft) {
			a.w.fail("%s has left and is active: %v, %v", a, a.State(), a.Err())
		}
		if err != nil {
			a.orphans++ // its record expires only
			return
		}
		if len(a.calls) > 0 && (a.calls[len(a.calls)-1].Index != -1 || a.calling) {
			a.w.fail("%s has left and its last callback was not index -1: %v", a, a.calls)
		}
		if how == "Leave" {
			a.checkGone()
		}
	})
}

// checkGone wants the record gone at once, but for one that the app cannot know
// of, or could not remove: because nobody answered, or because a callback had used
// up the time for it.
func (a *app) checkGone() {
	if a.orphans == 0 && a.w.owners[a.id] == a && a.w.Holds(cluster, a.id) && a.w.restores == 0 {
		a.w.fail("%s has left and its record is there still", a)
	}
}

func (a *app) setWorkers(n int, patience time.Duration) {
	a.wants = n
	before := a.view
	a.do(fmt.Sprintf("SetWorkers(%d)", n), patience,
		func(ctx context.Context) error { return a.SetWorkers(ctx, n) },
		func(err error) {
			if err != nil || !a.joined || a.view != before || a.view.tampered || !a.State().Active() {
				return
			}
			if before.overtaken || !a.fences() && !a.w.Holds(cluster, a.id) {
				return // undone by a request that arrived late, or expired without the app knowing
			}
			if _, workers, _ := stateOf(a.id, true, a.w.Members(cluster)); workers != n {
				a.w.fail("%s: SetWorkers(%d) has returned, and the registry has %d", a, n, workers)
			}
		})
}

// onRebalance is the callback.
func (a *app) onRebalance(s libcluster.State) {
	var slow func()
	stay := 0
	a.w.locked(func() {
		stay = a.stay
		a.w.say("%s is told %d+%d/%d in %d", a, s.Index, s.Workers, s.Total, s.Generation)
		a.w.happened("callback")
		a.checkCallback(s)
		a.calling = true
		a.calls = append(a.calls, s)
		a.news = append(a.news, "is told "+placeOf(s))
		slow = a.slow
	})
	if slow != nil {
		slow()
	}
	a.w.locked(func() {
		a.calling = false
		if a.stay == stay {
			a.returned++
		}
	})
}
