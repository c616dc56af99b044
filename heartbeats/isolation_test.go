package heartbeats_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/heartbeats"
)

// The cases of the Python module clustering: three of its later README, two of its earlier one.

const (
	fewAreHeard  = "too few of the others' heartbeats are heard"
	mostAreHeard = "most of the others' heartbeats are heard again"
)

// longSilence is how many rounds of packets are twice what is silence.
const longSilence = 10

// Heartbeats fail for all, and the store is there: all stay what they are.
func TestPrimaryStaysWhenHeartbeatsFailForAll(t *testing.T) {
	t.Parallel()
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			c := newCompany(t, heartbeats.Config{}, libcluster.Config{Mode: mode})
			a, b, d := c.instance("a"), c.instance("b"), c.instance("d")
			generation := c.tile(a, b, d)
			c.hearEachOther(a, b, d)
			before := a.heard()

			c.lose(everything)
			for _, i := range []*instance{a, b, d} {
				c.says(i, fewAreHeard, 1)
			}
			c.exchange(longSilence, a, b, d)
			c.lose(nil)
			for _, i := range []*instance{a, b, d} {
				c.says(i, mostAreHeard, 1)
			}
			require.Equal(t, generation, c.tile(a, b, d))
			require.Equal(t, before, a.heard(), "nobody is told of anything")
			require.True(t, a.State().Primary())
		})
	}
}

// The primary is cut off from the others, and the store is there: they put it out, and it comes
// back last, unless it is back before there is a plan without it. In exclusive mode, where they wait
// until it must have stopped, it may be back where it was.
func TestPrimaryThatIsCutOffIsPutOutAndComesBackLast(t *testing.T) {
	t.Parallel()
	for _, mode := range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			c := newCompany(t, heartbeats.Config{}, libcluster.Config{Mode: mode})
			a, b, d := c.instance("a"), c.instance("b"), c.instance("d")
			c.tile(a, b, d)
			require.True(t, a.State().Primary())
			c.hearEachOther(a, b, d)

			before := len(a.heard())
			c.lose(isolates("a"))
			c.until("it is told to stop", func() bool { return slices.Contains(a.heard()[before:], -1) })
			c.until("it was put out", func() bool { return b.logged("was ended")+d.logged("was ended") > 0 })
			generation := c.tile(a, b, d)
			// In planned mode it may be back before there is a plan without it.
			if mode == libcluster.ModePlanned && slices.Contains(append(b.heard(), d.heard()...), 0) {
				require.Equal(t, 2, a.State().Index)
			}

			c.exchange(longSilence, a, b, d)
			require.Equal(t, generation, c.tile(a, b, d), "it is not put out again")
			c.lose(nil)
			c.says(a, mostAreHeard, 1)
			require.Equal(t, generation, c.tile(a, b, d), "it stays where it is")
		})
	}
}

// The store is gone for all: who keeps its state keeps it, the others have none, and all comes back
// by itself.
func TestStateIsFrozenWhileTheStoreIsGone(t *testing.T) {
	t.Parallel()
	for _, outage := range []libcluster.Outage{libcluster.KeepOnOutage, libcluster.FenceOnOutage} {
		name := "kept"
		if outage == libcluster.FenceOnOutage {
			name = "fenced"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCompany(t, heartbeats.Config{}, libcluster.Config{Mode: libcluster.ModePlanned, Outage: outage})
			a, b := c.instance("a"), c.instance("b")
			c.tile(a, b)
			before := a.heard()

			for _, i := range []*instance{a, b} {
				i.noStore.Store(true)
			}
			if outage == libcluster.FenceOnOutage {
				c.until("nobody acts", func() bool { return a.State().Index == -1 && b.State().Index == -1 })
			} else {
				for _, i := range []*instance{a, b} {
					c.until("its lease has run out", func() bool { return i.Stats().RegistryErrors[libcluster.RegistryRenew] > 60 })
				}
				require.Equal(t, before, a.heard())
				require.True(t, a.State().Primary())
				require.Equal(t, 1, b.State().Index)
			}
			for _, i := range []*instance{a, b} {
				i.noStore.Store(false)
			}
			c.tile(a, b)
		})
	}
}

// Heartbeats fail for all, and are required: nobody acts until they are heard again.
func TestAllStepDownWhenHeartbeatsThatAreRequiredFail(t *testing.T) {
	t.Parallel()
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			c := newCompany(t, heartbeats.Config{Require: true}, libcluster.Config{Mode: mode})
			a, b, d := c.instance("a"), c.instance("b"), c.instance("d")
			c.tile(a, b, d)

			c.lose(everything)
			none := func() bool { return a.State().Index == -1 && b.State().Index == -1 && d.State().Index == -1 }
			c.until("nobody acts, and all have been told", func() bool {
				for _, told := range [][]int{a.heard(), b.heard(), d.heard()} {
					if told[len(told)-1] != -1 {
						return false
					}
				}
				return none()
			})
			told := []int{len(a.heard()), len(b.heard()), len(d.heard())}
			c.exchange(longSilence, a, b, d)
			require.True(t, none())
			for n, i := range []*instance{a, b, d} {
				require.True(t, i.idleSince(told[n]), "it acts in between: %v", i.heard())
			}

			c.lose(nil)
			c.tile(a, b, d)
		})
	}
}

// Heartbeats and the store fail for all: all shut down.
func TestAllShutDownWhenHeartbeatsAndTheStoreFail(t *testing.T) {
	t.Parallel()
	c := newCompany(t, heartbeats.Config{Require: true}, libcluster.Config{Mode: libcluster.ModePlanned, GiveUpAfter: ttl})
	a, b, d := c.instance("a"), c.instance("b"), c.instance("d")
	c.tile(a, b, d)
	c.lose(everything)
	all := []*instance{a, b, d}
	for _, i := range all {
		i.noStore.Store(true)
	}
	for _, i := range all {
		select {
		case err := <-i.ended:
			require.ErrorIs(t, err, libcluster.ErrGivenUp)
		case <-patience(t).Done():
			t.Fatal("it does not shut down")
		}
	}
}

// The smaller part of a cluster that is cut in two steps down, and the larger one goes on.
func TestMinorityStepsDownWhereHeartbeatsAreRequired(t *testing.T) {
	t.Parallel()
	c := newCompany(t, heartbeats.Config{Require: true}, libcluster.Config{Mode: libcluster.ModePlanned})
	var all []*instance
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		all = append(all, c.instance(name))
	}
	c.tile(all...)
	c.hearEachOther(all...)
	c.lose(func(from, to string) bool { return (from < "c") != (to < "c") })
	c.tile(all[2:]...)
	c.until("the smaller part has stopped", func() bool { return all[0].State().Index == -1 && all[1].State().Index == -1 })
	told := len(all[0].heard())
	c.exchange(longSilence, all...)
	require.True(t, all[0].idleSince(told), "it acts in between: %v", all[0].heard())
	c.lose(nil)
	c.tile(all...)
}
