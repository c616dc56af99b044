package libcluster_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

var rangeModes = []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive}

// coverage asks, which must work.
func (a *application) coverage() libcluster.Coverage {
	a.w.Helper()
	c, err := a.Coverage(a.w.Context())
	require.NoError(a.w, err)
	return c
}

// problems are what is wrong, in one line each, without the words for people.
func (a *application) problems() (all []string) {
	a.w.Helper()
	for _, p := range a.coverage().Problems {
		short, _, _ := strings.Cut(p.String(), ": ")
		all = append(all, short)
	}
	return all
}

// covers waits until all is well, for so long at most.
func (a *application) covers(within time.Duration) {
	a.w.Helper()
	for start := time.Now(); !a.coverage().Covered || len(a.problems()) > 0; wait(100 * time.Millisecond) {
		require.Less(a.w, time.Since(start), within, "%v", a.problems())
	}
}

// logs is what several instances have logged.
type logs struct {
	core zapcore.Core
	*observer.ObservedLogs
}

func (l *logs) configure(c *libcluster.Config) {
	if l.core == nil {
		l.core, l.ObservedLogs = observer.New(zap.InfoLevel)
	}
	c.Logger = zap.New(l.core)
}

// about returns what was logged that the coverage has to do with.
func (l *logs) about() (all []observer.LoggedEntry) {
	for _, e := range l.All() {
		if strings.Contains(e.Message, "worker index is held by") {
			all = append(all, e)
		}
	}
	return all
}

func TestEachInstanceCanTellWhoHoldsWhat(t *testing.T) {
	for _, m := range rangeModes {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				a := w.join("a", mode(m))
				start := time.Now()
				wait(time.Minute)
				b, p := w.join("b", mode(m), workers(2)), w.join("p", mode(m), passive)
				wait(time.Minute)
				for _, x := range []*application{a, b, p} {
					c := x.coverage()
					require.True(w, c.Covered)
					require.Empty(w, c.Problems)
					require.Empty(w, c.Blockers)
					require.Equal(w, m, c.Mode)
					require.Equal(w, 3, c.Total)
					require.Len(w, c.Assignments, 2)
					require.Equal(w, "b", c.Assignments[1].ID)
					require.Equal(w, 1, c.Assignments[1].Index)
					if m != libcluster.ModeDirect {
						require.Equal(w, b.State().Generation, c.Generation)
					}
				}
				require.InDelta(w, time.Minute.Seconds(), time.Since(b.coverage().Since).Seconds(), 2, "asked for the first time")
				if m == libcluster.ModeDirect {
					require.Less(w, a.coverage().Since.Sub(start), libcluster.DefaultTTL, "it has watched all the time")
				}
			})
		})
	}
}

func TestSinceIsNoEarlierThanWhatAnInstanceKnows(t *testing.T) {
	inMemory(t, func(w *memory) {
		w.join("a", planned)
		b := w.join("b", planned) // does not coordinate, and so looks only when it is asked
		joined := time.Now()
		wait(10 * time.Minute)
		require.InDelta(w, 0, b.coverage().Since.Sub(joined), float64(time.Second))
		w.join("c", planned)
		changed := time.Now()
		wait(10 * time.Minute)
		require.InDelta(w, 0, b.coverage().Since.Sub(changed), float64(time.Second), "before, it may have been otherwise for a while")
		since := b.coverage().Since
		wait(10 * time.Minute)
		require.Equal(w, since, b.coverage().Since)
	})
}

func TestOrphanIsReportedUntilItIsGone(t *testing.T) {
	inMemory(t, func(w *memory) {
		a, b := w.join("a"), w.join("b")
		w.Put(cluster, "aa", []byte("3"))
		wait(10 * time.Second)
		for _, x := range []*application{a, b} {
			require.Equal(w, []string{"orphan, indexes 1 to 3, aa"}, x.problems())
			require.False(w, x.coverage().Covered)
		}
		broken := a.coverage().Since
		require.InDelta(w, 10, time.Since(broken).Seconds(), 2)
		wait(10 * time.Minute)
		require.Equal(w, broken, a.coverage().Since)
		w.Delete(cluster, "aa")
		wait(0)
		require.Empty(w, a.problems())
		require.True(w, a.coverage().Covered)
		require.Zero(w, time.Since(a.coverage().Since))
	})
}

// The first by ID is an orphan itself, and so there is no primary.
func TestTroubleThatLastsIsLoggedByOneAndItsEndToo(t *testing.T) {
	for _, id := range []string{"0", "b", "z"} {
		t.Run(id, func(t *testing.T) {
			inMemory(t, func(w *memory) {
				var log logs
				timeout := func(c *libcluster.Config) { c.CoverageTimeout = libcluster.DefaultTTL / 2 }
				w.join("a", timeout, log.configure)
				w.join("c", timeout, log.configure)
				wait(time.Minute)
				reads := w.Counts().Reads
				w.Put(cluster, id, []byte("2"))
				wait(libcluster.DefaultTTL)
				require.Len(w, log.about(), 1, "within a TTL")
				e := log.about()[0]
				require.Equal(w, zap.ErrorLevel, e.Level)
				require.Contains(w, e.ContextMap()["problems"], "orphan, indexes ")
				require.Contains(w, e.ContextMap()["problems"], id+": ")
				wait(10 * time.Minute)
				require.InDelta(w, 10, len(log.about()), 1, "again each minute")
				w.Delete(cluster, id)
				wait(libcluster.DefaultTTL)
				last := log.about()[len(log.about())-1]
				require.Equal(w, zap.InfoLevel, last.Level)
				require.Equal(w, reads, w.Counts().Reads, "nobody has read anything for it")
			})
		})
	}
}

func TestShortTroubleAndWhatIsNotToBeLoggedIsNot(t *testing.T) {
	for _, m := range rangeModes {
		inMemory(t, func(w *memory) {
			var log, silent logs
			w.join("a", mode(m), log.configure)
			b := w.join("b", mode(m), log.configure)
			wait(time.Second)
			require.NoError(w, b.Leave(w.Context(), libcluster.Returning(time.Minute)))
			wait(20 * time.Second)
			w.join("b", mode(m), log.configure)
			wait(time.Minute)
			require.Empty(w, log.about())

			c := w.app("c", mode(m), silent.configure, func(c *libcluster.Config) { c.Key, c.CoverageTimeout = "quiet", -1 })
			require.NoError(w, c.Join(w.Context()))
			w.Put("quiet/production", "z", []byte("1"))
			wait(10 * time.Minute)
			require.Len(w, c.problems(), 1)
			require.Empty(w, silent.about())
			require.NoError(w, c.Leave(w.Context()))
		})
	}
}

func TestReservedAssignmentIsNotCovered(t *testing.T) {
	for _, m := range rangeModes {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				a, b := w.join("a", mode(m)), w.join("b", mode(m), workers(2))
				wait(time.Second)
				told := len(a.told())
				require.NoError(w, b.Leave(w.Context(), libcluster.Returning(time.Minute)))
				wait(time.Second)
				require.Equal(w, []string{"reserved, indexes 1 to 2, b"}, a.problems())
				require.False(w, a.coverage().Covered)
				w.join("b", mode(m), workers(2))
				a.covers(2 * time.Second)
				require.Len(w, a.told(), told)
			})
		})
	}
}

// No coordinator is left to write a plan that says so.
func TestAssignmentOfTheOnlyInstanceIsKept(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				watching := w.join("z", mode(m), passive)
				a := w.join("a", mode(m), workers(2))
				watching.covers(2 * time.Second)
				require.NoError(w, a.Leave(w.Context(), libcluster.Returning(time.Minute)))
				wait(time.Second)
				problems := slices.DeleteFunc(watching.problems(), func(p string) bool { return p == "no coordinator" })
				require.Len(w, problems, 1)
				require.Regexp(w, "^reserved, .* a$", problems[0])
				require.Empty(w, watching.coverage().Blockers)
				w.join("a", mode(m), workers(2))
				watching.covers(2 * time.Second)
			})
		})
	}
}

func TestPlantedPlanIsReportedWithinATTL(t *testing.T) {
	for _, c := range []struct {
		places []string // index, workers and ID
		total  string
		want   string
	}{
		{[]string{"0\t1\ta", "0\t1\tb"}, "1", "overlap, index 0, b"},
		{[]string{"0\t1\ta", "2\t1\tb"}, "3", "gap, index 1"},
		{[]string{"0\t1\ta", "1\t1\tb"}, "1", "bad plan, index 1, b"},
	} {
		t.Run(c.want, func(t *testing.T) {
			inMemory(t, func(w *memory) {
				var log logs
				timeout := func(c *libcluster.Config) { c.CoverageTimeout = time.Second }
				a := w.join("a", planned, log.configure, timeout)
				b := w.join("b", planned, log.configure, timeout)
				wait(time.Second)
				w.Intercept(func(ctx context.Context, call libclustertest.Call) error { // or it would be mended at once
					if call.Op == libclustertest.OpSwap {
						return errors.New("no permission")
					}
					return call.Send(ctx)
				})
				lines := strings.Split(w.Plan(cluster), "\n")
				for i, p := range c.places {
					was := strings.Split(lines[i+1], "\t")
					lines[i+1] = strings.Join([]string{was[0], was[1], p, ""}, "\t")
				}
				head := strings.Split(lines[0], "\t")
				lines[0] = strings.Join([]string{head[0], head[1], head[2], c.total}, "\t")
				w.PutPlan(cluster, strings.Join(lines, "\n"))
				wait(libcluster.DefaultTTL)
				for _, x := range []*application{a, b} {
					require.Equal(w, []string{c.want}, x.problems())
				}
				require.Len(w, log.about(), 1)
				require.Contains(w, log.about()[0].ContextMap()["problems"], c.want)
				w.Intercept(nil)
				a.covers(2 * time.Second)
				wait(libcluster.DefaultTTL)
				require.Len(w, log.about(), 2)
			})
		})
	}
}

func TestOneWhoHoldsAllUpIsNamed(t *testing.T) {
	inMemory(t, func(w *memory) {
		var log logs
		a := w.join("a", exclusive, log.configure)
		release := a.doesNotStop()
		b := w.app("b", exclusive, log.configure)
		joined := make(chan error, 1)
		go func() { joined <- b.Join(w.Context()) }()
		wait(time.Second / 2)
		for _, x := range []*application{a, b} {
			require.Equal(w, []string{"stopped, index 0"}, x.problems())
			require.Equal(w, "a", x.coverage().Blockers[0].ID)
			require.True(w, x.coverage().Blockers[0].Since.IsZero())
		}
		wait(libcluster.DefaultCoverageTimeout + libcluster.DefaultTTL/2)
		require.InDelta(w, 35, time.Since(b.coverage().Blockers[0].Since).Seconds(), 1)
		require.InDelta(w, 35, time.Since(b.coverage().Since).Seconds(), 1)
		require.Len(w, log.about(), 1)
		require.Equal(w, "a", log.about()[0].ContextMap()["waiting for"])
		release()
		require.NoError(w, <-joined)
		a.covers(time.Second)
		require.NoError(w, b.Leave(w.Context()))
	})
}

func TestOneWhoVanishedIsMissedUntilOthersHaveItsAssignment(t *testing.T) {
	inMemory(t, func(w *memory) {
		a, b := w.join("a", exclusive), w.join("b", exclusive)
		wait(time.Second)
		w.Cut("b")
		w.Expire(cluster, "b")
		wait(2 * time.Second)
		require.Equal(w, []string{"vanished, index 1, b"}, a.problems())
		require.Equal(w, "b", a.coverage().Blockers[0].ID)
		require.InDelta(w, 2, time.Since(a.coverage().Blockers[0].Since).Seconds(), 0.5)
		a.covers(8 * time.Second)
		require.Equal(w, 1, a.coverage().Total)
		_, err := b.Coverage(w.Context())
		require.Error(w, err, "it is cut off")
	})
}

func TestThatNobodyMakesPlansIsLogged(t *testing.T) {
	inMemory(t, func(w *memory) {
		var log logs
		a := w.join("a", planned, log.configure)
		w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpClaim {
				return errors.New("no permission")
			}
			return call.Send(ctx)
		})
		w.Depose(cluster)
		wait(libcluster.DefaultCoverageTimeout + libcluster.DefaultTTL)
		require.True(w, a.coverage().Covered)
		require.Equal(w, []string{"no coordinator"}, a.problems())
		require.Len(w, log.about(), 1)
		require.Equal(w, zap.WarnLevel, log.about()[0].Level)
	})
}

func TestFencedInstanceCanBeAsked(t *testing.T) {
	inMemory(t, func(w *memory) {
		a := w.join("a")
		w.join("b")
		w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpJoin {
				return errors.New("the registry is down")
			}
			return call.Send(ctx)
		})
		w.Expire(cluster, "a")
		wait(time.Second)
		require.Equal(w, libcluster.PhaseFenced, a.Phase())
		require.True(w, a.coverage().Covered)
		require.Equal(w, 1, a.coverage().Total)
	})
}

func TestWhoHasNobodyToAskSaysSo(t *testing.T) {
	inMemory(t, func(w *memory) {
		a := w.app("a")
		_, err := a.Coverage(w.Context())
		require.ErrorIs(w, err, libcluster.ErrLeft)
		require.NoError(w, a.Join(w.Context()))
		require.NoError(w, a.Leave(w.Context()))
		_, err = a.Coverage(w.Context())
		require.ErrorIs(w, err, libcluster.ErrLeft)

		alone := w.join("a", func(c *libcluster.Config) { c.Registry = libcluster.Static(0, 2) })
		_, err = alone.Coverage(w.Context())
		require.ErrorIs(w, err, libcluster.ErrCannotLook)

		b := w.join("b")
		w.CutAll()
		start := time.Now()
		_, err = b.Coverage(context.Background())
		require.ErrorIs(w, err, context.DeadlineExceeded)
		require.LessOrEqual(w, time.Since(start), 5*time.Second)
	})
}

// A deployment: one after another leaves for a restart. Nobody else has anything to
// do, and what is missing at each moment is known.
func TestRollingRestartIsSeenFromWithout(t *testing.T) {
	for _, m := range rangeModes {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				ids := []string{"a", "b", "c", "d"}
				var apps []*application
				for _, id := range ids {
					apps = append(apps, w.join(id, mode(m)))
				}
				wait(time.Second)
				p := w.join("p", mode(m), passive)
				for i, a := range apps {
					told := 0
					for _, x := range apps {
						told += len(x.told())
					}
					require.NoError(w, a.Leave(w.Context(), libcluster.Returning(time.Minute)))
					wait(3 * time.Second)
					require.Len(w, p.problems(), 1)
					require.Equal(w, libcluster.ProblemReserved, p.coverage().Problems[0].Kind)
					require.Equal(w, ids[i], p.coverage().Problems[0].ID)
					apps[i] = w.join(ids[i], mode(m))
					p.covers(2 * time.Second)
					now := 0
					for _, x := range slices.Concat(apps, []*application{a}) {
						now += len(x.told())
					}
					require.Equal(w, told+2, now, "one has been told that it has left, and one that it is back")
				}
				require.Len(w, p.told(), 1)
			})
		})
	}
}
