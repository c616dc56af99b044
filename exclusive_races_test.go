package libcluster_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// actors is who acts under which total, as their callbacks and functions say.
type actors struct {
	t    *testing.T
	mu   sync.Mutex // guards acts
	acts map[string]int
}

// act notes that an instance acts from now on, or no more if total is 0.
func (a *actors) act(id string, total int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.acts, id)
	if total == 0 {
		return
	}
	a.acts[id] = total
	for other, is := range a.acts {
		if is != total {
			a.t.Errorf("%s acts in a total of %d while %s does in one of %d", id, total, other, is)
		}
	}
}

func (a *actors) callback(id string) func(*libcluster.Config) {
	return func(c *libcluster.Config) {
		c.OnRebalance = func(s libcluster.State) {
			if s.Active() {
				a.act(id, s.Total)
			} else {
				a.act(id, 0)
			}
		}
	}
}

// standsStill has an instance's notifier wait once, from when armed is set, where it has read the
// newest state.
func standsStill(c *libcluster.Cluster, armed *atomic.Bool, d time.Duration) (hit *atomic.Bool) {
	hit = new(atomic.Bool)
	c.OnClock(func(callers string) {
		if armed.Load() && strings.Contains(callers, "(*notifier).newest") && hit.CompareAndSwap(false, true) {
			time.Sleep(d)
		}
	})
	return hit
}

// awaitHit waits until the instance stands still. It would never, if the function had another
// name by now.
func awaitHit(t *testing.T, hit *atomic.Bool) {
	t.Helper()
	for range 100_000 {
		if wait(time.Millisecond); hit.Load() {
			return
		}
	}
	t.Fatal("the clock is not read there")
}

// A plan that has everybody stop comes while the notifier looks at the state before.
func TestNobodySaysThatItHasStoppedWhileItsFunctionRuns(t *testing.T) {
	inBubble(t, func(b *bubble) {
		who := &actors{t: t, acts: map[string]int{}}
		a := b.instance("a")
		var armed atomic.Bool
		hit := standsStill(a, &armed, 300*time.Millisecond)
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- a.Run(ctx, func(ctx context.Context, s libcluster.State) error {
				who.act("a", s.Total)
				<-ctx.Done()
				time.Sleep(2 * time.Second)
				who.act("a", 0)
				return nil
			})
		}()
		wait(time.Second)
		armed.Store(true)
		awaitHit(t, hit)
		b.joins(b.instance("x", who.callback("x")))
		wait(10 * time.Second)
		stop()
		<-ended
	})
}

// A place is lost between when it was read and when it is told.
func TestNobodyIsToldOfAnAssignmentOfAnIncarnationThatIsOver(t *testing.T) {
	inBubble(t, func(b *bubble) {
		who := &actors{t: t, acts: map[string]int{}}
		b.member("x", who.callback("x"))
		a := b.instance("a", who.callback("a"))
		var armed atomic.Bool
		hit := standsStill(a, &armed, 2*time.Second)
		b.joins(a)
		wait(time.Second)
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.ID == "a" && call.Op == libclustertest.OpJoin {
				time.Sleep(500 * time.Millisecond)
			}
			if call.ID == "a" && call.Op == libclustertest.OpAcknowledge {
				armed.Store(true) // the next plan that it looks at gives it a place
			}
			return call.Send(ctx)
		})
		go b.joins(b.instance("y", who.callback("y")))
		awaitHit(t, hit)
		b.Expire(simulated, "a")
		go b.joins(b.instance("z", who.callback("z")))
		wait(20 * time.Second)
	})
}
