package libcluster_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// journal is what several callbacks have noted, in their order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (d *journal) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// since returns the notes since it was called before.
func (d *journal) since() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return strings.Join(lines, ", ")
}

// configure has an app's callbacks noted.
func (d *journal) configure(c *libcluster.Config) {
	id := c.ID
	c.OnRebalance = func(s libcluster.State) { d.note("%s is at %d", id, s.Index) }
	c.OnPrimary = func(primary bool) { d.note("%s primary %v", id, primary) }
	c.OnExit = func(err error) { d.note("%s ends: %v", id, err) }
}

func TestPrimaryIsToldWhenItIsAndWhenItIsNoLonger(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		var d journal
		a := w.join("a", in, d.configure)
		require.Equal(w, "a is at 0, a primary true", d.since())
		w.Cut("a")
		wait(6 * time.Second)
		require.Equal(w, "a primary false, a is at -1", d.since(), "at its deadline")
		w.Heal("a")
		wait(5 * time.Second)
		require.Equal(w, "a is at 0, a primary true", d.since())
		require.NoError(w, a.SetWorkers(w.Context(), 2))
		wait(5 * time.Second)
		require.NotContains(w, strings.ReplaceAll(d.since(), "a primary false, a is at -1, a is at 0, a primary true", ""), "primary",
			"it goes on as the primary, unless all have to stop")
		require.NoError(w, a.Leave(w.Context()))
		require.Equal(w, "a primary false, a is at -1", d.since())
	})
}

// An assignment that is lost while one callback runs is not told by the next.
func TestAnAssignmentThatACallbackHasOutlivedIsNotTold(t *testing.T) {
	for name, b := range map[string]struct {
		slow string // the line of the callback that takes long
		then string // what is noted from that on
	}{
		"OnRebalance": {"b is at 0", "b is at 0, b is at -1"},
		"OnPrimary":   {"b primary false", "b primary false, b is at -1"},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(w *memory) {
				var d journal
				own := w.app("b", d.configure, func(c *libcluster.Config) {
					index, primary := c.OnRebalance, c.OnPrimary
					takes := func(line string) {
						if line == b.slow {
							time.Sleep(time.Minute)
						}
					}
					c.OnRebalance = func(s libcluster.State) { index(s); takes(fmt.Sprint("b is at ", s.Index)) }
					c.OnPrimary = func(is bool) { primary(is); takes(fmt.Sprint("b primary ", is)) }
				})
				go func() { _ = own.Join(w.Context()) }()
				wait(time.Second)
				if name == "OnPrimary" {
					require.Equal(w, "b is at 0, b primary true", d.since())
					w.join("a")
					wait(time.Second)
				}
				w.Cut("b")
				wait(2 * time.Minute)
				require.Equal(w, b.then, d.since())
				w.Heal("b")
				require.NoError(w, own.Leave(w.within(time.Hour)))
			})
		})
	}
}

// A callback of an old primary that leaves holds up the next one, however long it takes.
func TestTheNextPrimaryIsToldAfterTheOneBeforeThatLeaves(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		var d journal
		slowly := func(c *libcluster.Config) {
			d.configure(c)
			told := c.OnPrimary
			c.OnPrimary = func(primary bool) {
				if !primary {
					time.Sleep(2 * time.Second)
				}
				told(primary)
			}
		}
		a := w.join("a", in, slowly)
		w.join("b", in, d.configure)
		wait(10 * time.Second)
		d.since()
		require.NoError(w, a.Leave(w.Context()))
		wait(10 * time.Second)
		told := d.since()
		require.Contains(w, told, "a primary false")
		require.Contains(w, told, "b primary true")
		require.Less(w, strings.Index(told, "a primary false"), strings.Index(told, "b primary true"), told)
	})
}

func TestWaitActiveReturnsTheFirstState(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		a := w.app("a", in)
		found := make(chan libcluster.State, 1)
		go func() {
			s, err := a.WaitActive(w.Context())
			require.NoError(w, err)
			found <- s
		}()
		wait(time.Minute)
		require.Empty(w, found)
		require.NoError(w, a.Join(w.Context()))
		require.Equal(w, 0, (<-found).Index)
		require.NoError(w, a.Leave(w.Context()))
		_, err := a.WaitActive(w.within(time.Second))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		require.ErrorIs(w, err, libcluster.ErrLeft)
		_, err = w.app("p", in, passive).WaitActive(w.Context())
		require.ErrorIs(w, err, libcluster.ErrPassive)
	})
}

func version(v string) func(*libcluster.Config) {
	return func(c *libcluster.Config) {
		c.Version = v
		c.Superseded = func(own, other libcluster.Member) bool {
			if own.ID == other.ID || own.Version != v {
				panic("it is asked of itself: " + own.ID)
			}
			return libcluster.ByNewerVersion(own, other)
		}
	}
}

func TestInstancesGiveWayToANewerVersion(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		var d journal
		a := w.join("a", in, version("1.9"), d.configure)
		b := w.join("b", in, version("1.9"))
		ended := make(chan error, 1)
		r := w.app("r", in, version("1.9"))
		go func() {
			ended <- r.Run(w.Context(), func(ctx context.Context, _ libcluster.State) error {
				<-ctx.Done()
				return nil
			})
		}()
		w.join("typo", in, version("v1,10"))
		wait(time.Minute)
		require.True(w, a.State().Active(), "a slip stops nobody")
		d.since()
		w.join("c", in, version("1.10"))
		wait(time.Minute)
		told := d.since()
		require.Contains(w, told, `ends: libcluster: superseded by a newer version: "c" has version "1.10"`)
		require.Contains(w, told, "a primary false")
		require.Contains(w, told, "a is at -1")
		require.Less(w, strings.LastIndex(told, "primary false"), strings.Index(told, "ends"), told)
		require.Less(w, strings.LastIndex(told, "a is at -1"), strings.Index(told, "ends"), told)
		for _, x := range []*application{a, b} {
			require.Equal(w, libcluster.PhaseLeft, x.Phase())
		}
		require.ErrorIs(w, <-ended, libcluster.ErrSuperseded)
		require.Len(w, w.Members(cluster), 2)
		if err := a.Join(w.Context()); err != nil { // it may join again, and is told of the newer one before or after
			require.ErrorIs(w, err, libcluster.ErrSuperseded)
		}
		wait(time.Minute)
		require.Equal(w, libcluster.PhaseLeft, a.Phase())
	})
}

// A newer instance that has no assignment yet may never get one.
func TestAnInstanceGivesWayOnlyToOneThatHoldsAnAssignment(t *testing.T) {
	inMemory(t, func(w *memory) {
		a := w.join("a", exclusive, version("1"), func(c *libcluster.Config) { c.DrainTimeout = time.Hour })
		a.inCallback(func(s libcluster.State) {
			if !s.Active() {
				time.Sleep(time.Minute)
			}
		})
		b := w.app("b", exclusive, version("2"))
		go func() { _ = b.Join(w.Context()) }()
		wait(30 * time.Second)
		require.NotEqual(w, libcluster.PhaseLeaving, a.Phase(), "it holds up the newer one")
		wait(2 * time.Minute)
		require.Equal(w, libcluster.PhaseLeft, a.Phase())
		require.Equal(w, "0/1", b.place())
		require.NoError(w, b.Leave(w.Context()))
	})
}

func TestAnInstanceThatIsFencedForLongGivesUp(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		var d journal
		soon := func(c *libcluster.Config) { c.GiveUpAfter = 30 * time.Second }
		a := w.join("a", in, soon, d.configure)
		r, ended := w.app("r", in, soon), make(chan error, 1)
		go func() {
			ended <- r.Run(w.Context(), func(ctx context.Context, _ libcluster.State) error {
				<-ctx.Done()
				return nil
			})
		}()
		wait(10 * time.Second)
		w.CutAll()
		wait(20 * time.Second)
		w.HealAll()
		wait(time.Minute)
		require.True(w, a.State().Active(), "it came back in time")
		d.since()
		w.CutAll()
		wait(time.Minute)
		require.Contains(w, d.since(), "a is at -1, a ends: libcluster: fenced for too long, after 30s")
		require.Equal(w, libcluster.PhaseLeft, a.Phase())
		err := <-ended
		require.ErrorIs(w, err, libcluster.ErrGivenUp)
		require.ErrorIs(w, err, libcluster.ErrDeadlinePassed)
		w.HealAll()
	})
}

func TestAnInstanceWhoseIDIsTakenLeavesIfThatIsToBeTold(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		var d journal
		a := w.join("a", in, d.configure)
		d.since()
		newer := w.join("a", in)
		wait(30 * time.Second)
		require.Contains(w, d.since(), "a is at -1, a ends: "+libcluster.ErrInstanceTaken.Error())
		require.Equal(w, libcluster.PhaseLeft, a.Phase())
		require.True(w, newer.State().Primary())

		quiet := w.join("b", in)
		w.join("b", in)
		wait(30 * time.Second)
		require.Equal(w, libcluster.PhaseFenced, quiet.Phase(), "as ever")
		synctest.Wait()
	})
}

// The members are told before the state is, which says which of them hold an assignment.
func TestANewerVersionIsSeenByAnInstanceThatJoinsAmongMany(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		w.join("new", in, version("2"))
		if w.Plan(cluster) == "" {
			for n := range 500 {
				w.Put(cluster, fmt.Sprintf("s%04d", n), []byte("1"))
			}
		}
		for n := range 10 {
			old := w.app(fmt.Sprint("old", n), in, version("1"))
			if err := old.Join(w.Context()); err != nil {
				require.ErrorIs(w, err, libcluster.ErrSuperseded)
			}
			wait(10 * time.Second)
			require.Equal(w, libcluster.PhaseLeft, old.Phase())
		}
	})
}

func TestARecordThatNoInstanceRenewsSupersedesNobody(t *testing.T) {
	inMemory(t, func(w *memory) {
		a := w.join("a", version("1"))
		w.Put(cluster, "z", []byte(`{"workers":1,"version":"99"}`))
		wait(time.Minute)
		require.Equal(w, "0/2", a.place())
	})
}

func TestLeaveEndsALeavingThatWaitsForACallback(t *testing.T) {
	inMemory(t, func(w *memory) {
		a := w.join("a", version("1"))
		hang := make(chan struct{})
		a.inCallback(func(s libcluster.State) {
			if !s.Active() {
				<-hang
			}
		})
		w.join("b", version("2"))
		wait(time.Minute)
		require.Equal(w, libcluster.PhaseLeaving, a.Phase(), "it waits for its callback, and its record is kept")
		require.True(w, w.Holds(cluster, "a"))
		begun := time.Now()
		require.ErrorContains(w, a.Leave(w.within(3*time.Second)), "a callback has not returned")
		require.Less(w, time.Since(begun), 4*time.Second)
		require.Equal(w, libcluster.PhaseLeft, a.Phase())
		wait(time.Minute)
		require.False(w, w.Holds(cluster, "a"))
		close(hang)
		wait(time.Second)
	})
}
