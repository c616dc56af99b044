package simulator

import (
	"time"

	"github.com/libcluster/libcluster"
)

// App is what every simulation knows of an application with one instance. It is to
// be made with NewApp.
type App struct {
	*libcluster.Cluster
	Name string // tells apart those that have one ID one after another
	ID   string

	// Guarded by the world's lock.
	Sky    Weather
	Slow   func() // in each callback; nil: it returns at once
	Busy   bool   // one of its methods is being called
	Stay   int    // the number of its present stay; 0: it has not joined yet
	InStay bool   // from before Join until Leave has returned, or Join has failed
	Joined bool   // from when Join has returned until before Leave
	Wants  int    // workers

	w       *World
	crashed chan struct{} // closed when it is cut off for ever
}

// NewApp makes an app, which has no instance yet.
func (w *World) NewApp(name, id string, workers int) *App {
	return &App{w: w, Name: name, ID: id, Wants: workers, crashed: make(chan struct{})}
}

func (a *App) String() string { return a.Name }

// Crash ends an app as kill -9 does, as far as the registry can tell: it hears of the
// app no more.
func (a *App) Crash() {
	if !a.Crashed() {
		a.w.Say("%s crashes", a)
		close(a.crashed)
	}
}

// Crashed tells whether it has crashed.
func (a *App) Crashed() bool {
	select {
	case <-a.crashed:
		return true
	default:
		return false
	}
}

// SlowCallbacks has an app's callbacks take so long. In calm they return at once.
func (w *World) SlowCallbacks(a *App, d time.Duration) {
	a.Slow = func() {
		w.Locked(func() { w.Happened("slow callback") })
		select {
		case <-time.After(d):
		case <-w.Calm:
		}
	}
	w.Say("%s: callbacks take %v", a, d)
}

// StepCallback changes how long an app's callbacks take.
func (w *World) StepCallback(a *App) {
	switch n := w.Steps.IntN(100); {
	case n < 40:
		a.Slow = nil
		w.Say("%s: prompt callbacks", a)
	case n < 85:
		w.SlowCallbacks(a, w.Draw(8*time.Second))
	default:
		a.Slow = func() { w.Locked(func() { w.Happened("hanging callback") }); <-w.Calm }
		w.Say("%s: callbacks hang", a)
	}
}
