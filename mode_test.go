package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// One write by hand, while a newcomer joins and a member hears of nothing: that member
// acts on, and nobody may act beside it on another total.
func TestAForeignPlanSetsNobodyBesideOneWhoStillActs(t *testing.T) {
	inMemory(t, func(w *memory) {
		a, b := w.join("a", exclusive), w.join("b", exclusive)
		wait(time.Second)
		require.Equal(t, "a", w.Coordinator(cluster))
		hears, surveys := make(chan struct{}), make(chan struct{})
		w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			held := map[string]chan struct{}{"b" + string(libclustertest.OpNext): hears, "a" + string(libclustertest.OpSurvey): surveys}
			if until := held[call.ID+string(call.Op)]; until != nil {
				select {
				case <-until:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return call.Send(ctx)
		})
		w.PutPlan(cluster, w.Plan(cluster)) // ends the calls that wait already
		wait(10 * time.Second)
		c := w.app("c", exclusive)
		joined := make(chan error, 1)
		go func() { joined <- c.Join(w.within(2 * time.Minute)) }()
		wait(time.Millisecond)
		w.PutPlan(cluster, fmt.Sprintf("planned\tcommit\t%d\t0", b.State().Generation))
		close(surveys)
		for range 300 {
			wait(100 * time.Millisecond)
			for _, x := range []*application{a, c} {
				is, was := x.State(), b.State()
				require.False(t, is.Active() && was.Active() && is.Total != was.Total, "%v and %v at once", is, was)
			}
		}
		close(hears)
		wait(30 * time.Second)
		require.NoError(t, <-joined)
		require.ElementsMatch(t, []string{"0/3", "1/3", "2/3"}, []string{a.place(), b.place(), c.place()})
		require.NoError(t, c.Leave(w.Context()))
	})
}

// The last instance to leave writes a plan in which nobody has a place, but not over a plan that says nothing of it.
func TestTheLastToLeaveDoesNotBuildOnAForeignPlan(t *testing.T) {
	for _, foreign := range []string{"planned\tcommit\t7\t0", "exclusive\tcommit\t7\t0"} {
		inMemory(t, func(w *memory) {
			a := w.join("a", exclusive)
			w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
				if call.Op == libclustertest.OpNext {
					<-ctx.Done()
					return context.Cause(ctx)
				}
				return call.Send(ctx)
			})
			w.PutPlan(cluster, foreign)
			require.NoError(t, a.Leave(w.Context()))
			text := w.Plan(cluster)
			require.True(t, text == foreign || strings.Contains(text, "prepare"), text)
		})
	}
}

// All have left, and come back in another mode: with a plan of the mode before, nobody
// can tell who acts by that, and so exclusive mode waits for as long as one could.
func TestTheModeOfAClusterCanBeChangedWhenAllHaveLeft(t *testing.T) {
	for _, change := range []struct {
		from, to libcluster.Mode
		wait     time.Duration
	}{
		{libcluster.ModePlanned, libcluster.ModeExclusive, 7750 * time.Millisecond},
		{libcluster.ModeExclusive, libcluster.ModePlanned, 0},
		{libcluster.ModeDirect, libcluster.ModeExclusive, 0},
		{libcluster.ModeExclusive, libcluster.ModeDirect, 0},
	} {
		t.Run(fmt.Sprint(change.from, " to ", change.to), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				for _, x := range []*application{w.join("a", mode(change.from)), w.join("b", mode(change.from))} {
					require.NoError(t, x.Leave(w.Context()))
				}
				began := time.Now()
				b := w.join("b", mode(change.to))
				require.GreaterOrEqual(t, time.Since(began), change.wait)
				require.Less(t, time.Since(began), change.wait+1500*time.Millisecond)
				a := w.join("a", mode(change.to))
				wait(time.Second)
				require.ElementsMatch(t, []string{"0/2", "1/2"}, []string{a.place(), b.place()})
			})
		})
	}
}

// An upgrade to another mode, with one node frozen meanwhile. It is back in the old mode,
// and must not act beside the others for as long as they are there.
func TestOneThatWasAwayIsRefusedByAClusterOfAnotherMode(t *testing.T) {
	modes := []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive}
	for _, away := range modes {
		for _, runs := range modes {
			if away == runs {
				continue
			}
			t.Run(fmt.Sprint(runs, " refuses ", away), func(t *testing.T) {
				inMemory(t, func(w *memory) {
					a := w.join("a", mode(away))
					w.Cut("a")
					w.Expire(cluster, "a")
					wait(20 * time.Second)
					b := w.join("b", mode(runs))
					w.Heal("a")
					for range 600 {
						wait(100 * time.Millisecond)
						require.False(t, a.State().Active(), "%v beside %v", a.State(), b.State())
					}
					require.Equal(t, "0/1", b.place())
					require.Len(t, b.told(), 1)
					if away == libcluster.ModeDirect {
						require.ErrorAs(t, a.Err(), new(*libcluster.ModeError))
					}
					require.NoError(t, b.Leave(w.Context()))
					wait(30 * time.Second)
					require.Equal(t, "0/1", a.place(), "they have gone")
				})
			})
		}
	}
}

func TestAnotherModeIsRefused(t *testing.T) {
	modes := []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive}
	for _, runs := range modes {
		for _, joins := range modes {
			if runs == joins {
				continue
			}
			t.Run(runs.String()+" refuses "+joins.String(), func(t *testing.T) {
				inMemory(t, func(w *memory) {
					a := w.join("a", mode(runs))
					for _, p := range []bool{false, true} {
						x := w.app("x", mode(joins), func(c *libcluster.Config) { c.Passive = p })
						err := x.Join(w.within(time.Minute))
						if p && joins != libcluster.ModeDirect && runs == libcluster.ModeDirect {
							require.NoError(t, err, "there is nobody with a plan to be seen")
							require.NoError(t, x.Leave(w.Context()))
							continue
						}
						var refused *libcluster.ModeError
						require.ErrorAs(t, err, &refused)
						require.Equal(t, libcluster.ModeError{Mode: joins, Cluster: runs}, *refused)
					}
					wait(10 * time.Second)
					require.Equal(t, "0/1", a.place())
					require.Len(t, a.told(), 1)
				})
			})
		}
	}
}

// Its record is as old as that of its former self.
func TestAnotherModeIsRefusedToOneThatWasThereBefore(t *testing.T) {
	for _, joins := range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive} {
		for _, kept := range []bool{false, true} {
			inMemory(t, func(w *memory) {
				a, b := w.join("a"), w.join("b")
				if kept {
					require.NoError(t, a.Leave(w.Context(), libcluster.Returning(time.Minute)))
				} else {
					w.Cut("a")
				}
				wait(time.Second)
				w.Heal("a")
				x := w.app("a", mode(joins))
				var refused *libcluster.ModeError
				require.ErrorAs(t, x.Join(w.within(time.Minute)), &refused)
				require.Equal(t, libcluster.ModeError{Mode: joins, Cluster: libcluster.ModeDirect}, *refused)
				require.Equal(t, "1/2", b.place(), "a refused instance has taken nothing")
			})
		}
	}
}

// The claim of an instance counts for nothing before it has seen the members.
func TestAnotherModeIsRefusedAlsoIfItsFirstSurveyFails(t *testing.T) {
	inMemory(t, func(w *memory) {
		w.join("b")
		var failed atomic.Bool
		w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpSurvey && failed.CompareAndSwap(false, true) {
				return errors.New("connection reset")
			}
			return call.Send(ctx)
		})
		x := w.app("x", mode(libcluster.ModeExclusive))
		require.ErrorAs(t, x.Join(w.within(time.Minute)), new(*libcluster.ModeError))
		require.True(t, failed.Load())
		require.Empty(t, w.Plan(cluster), "it has made no plan")
	})
}

// Of those who have left for a restart nobody is there.
func TestAnotherModeIsNotRefusedForReservedAssignments(t *testing.T) {
	inMemory(t, func(w *memory) {
		all := []*application{w.join("a"), w.join("b")}
		for _, x := range all {
			require.NoError(t, x.Leave(w.Context(), libcluster.Returning(time.Minute)))
		}
		b := w.join("b", exclusive)
		a := w.join("a", exclusive)
		require.Equal(t, []string{"0/2", "1/2"}, []string{b.place(), a.place()})
	})
}
