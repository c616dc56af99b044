package heartbeats

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/kv"
)

const silence = time.Second

// clocked is a circle with a clock of its own, as lease 0 sees leases 1, 2, ….
type clocked struct {
	*circle
	now    time.Time
	number uint64
}

func circleOf(others int) *clocked {
	c := &clocked{now: time.Now()}
	c.circle = newCircle(c.now, newRefusals())
	for i := range others {
		c.comes(kv.Owner(i + 1))
	}
	return c
}

func (c *clocked) comes(owner kv.Owner) {
	c.found(owner, record{Key: fmt.Append(nil, "process of ", owner), Silence: silence.Milliseconds()}, c.now)
}

// passes has time pass, in which some are heard.
func (c *clocked) passes(d time.Duration, heard ...kv.Owner) {
	c.now = c.now.Add(d)
	for _, owner := range heard {
		c.says(owner)
	}
}

// allHeard has all been heard for so long that it counts.
func (c *clocked) allHeard() {
	for range 3 {
		c.now = c.now.Add(silence / 2)
		for owner := range c.others {
			c.says(owner)
		}
	}
}

func (c *clocked) says(owner kv.Owner, accuses ...kv.Owner) {
	c.number++
	c.hear(packet{from: owner, number: c.number, accused: accuses}, c.now)
}

func TestWhoIsSilentIsAccusedByWhoHearsMostOfTheRest(t *testing.T) {
	for _, test := range []struct {
		others int
		heard  []kv.Owner // still; all others were heard once
		accuse []kv.Owner
	}{
		{1, nil, nil}, // who of two is cut off, nobody knows
		{2, nil, nil}, // it is alone, or heartbeats fail
		{2, []kv.Owner{2}, []kv.Owner{1}},
		{3, []kv.Owner{2}, nil}, // half of the rest is not most
		{3, []kv.Owner{2, 3}, []kv.Owner{1}},
		{4, []kv.Owner{3, 4}, []kv.Owner{1, 2}},
		{4, []kv.Owner{4}, nil},
		{5, []kv.Owner{3, 4}, nil},
	} {
		c := circleOf(test.others)
		c.allHeard()
		c.passes(silence, test.heard...)
		require.Empty(t, c.accused(c.now), "nobody is silent yet")
		c.passes(time.Millisecond)
		require.Equal(t, test.accuse, c.accused(c.now), "%+v", test)
	}
}

// One is heard before another when heartbeats work again.
func TestNobodyIsAccusedWhenHeartbeatsWorkAgain(t *testing.T) {
	c := circleOf(2)
	c.allHeard()
	c.passes(2*silence, 2)
	require.Empty(t, c.accused(c.now))
	c.passes(silence/2, 2)
	require.Empty(t, c.accused(c.now))
	c.passes(silence/2, 2)
	require.Equal(t, []kv.Owner{1}, c.accused(c.now), "it is not heard for long enough")
}

func TestWhoWasNeverHeardIsNotAccused(t *testing.T) {
	c := circleOf(3)
	for range 5 {
		c.passes(silence/2, 2, 3)
	}
	require.Empty(t, c.accused(c.now))
	require.False(t, c.isolated(c.now))
}

func TestMostOfTheOthersHaveToAccuse(t *testing.T) {
	for _, test := range []struct {
		others  int
		accuse  []kv.Owner // lease 1, as this one does
		quiet   []kv.Owner // are not heard, though they have accused it
		isEnded bool
	}{
		{others: 2},
		{others: 2, accuse: []kv.Owner{2}, isEnded: true},
		{others: 3},
		{others: 3, accuse: []kv.Owner{2}, isEnded: true}, // two of three
		{others: 4, accuse: []kv.Owner{2}},                // two of four
		{others: 4, accuse: []kv.Owner{2, 3}, isEnded: true},
		{others: 4, accuse: []kv.Owner{2, 3}, quiet: []kv.Owner{3}},
	} {
		c := circleOf(test.others)
		c.allHeard()
		for _, owner := range test.quiet {
			c.says(owner, 1)
		}
		c.passes(silence / 2)
		for owner := range c.others {
			if owner != 1 && !slices.Contains(test.quiet, owner) {
				c.says(owner)
			}
		}
		c.passes(silence/2 + time.Millisecond)
		for owner := range c.others {
			switch {
			case owner == 1, slices.Contains(test.quiet, owner):
			case slices.Contains(test.accuse, owner):
				c.says(owner, 1)
			default:
				c.says(owner)
			}
		}
		if test.isEnded {
			require.Equal(t, []kv.Owner{1}, c.dead(c.now), "%+v", test)
		} else {
			require.Empty(t, c.dead(c.now), "%+v", test)
		}
	}
}

func TestAccusationByOthersAloneEndsNothing(t *testing.T) {
	c := circleOf(3)
	c.passes(0, 1, 2, 3)
	c.says(2, 1)
	c.says(3, 1)
	require.Empty(t, c.dead(c.now), "it is heard here")
}

func TestIsolatedIsWhoIsNoMajorityWithThoseItHears(t *testing.T) {
	for _, test := range []struct {
		others   int
		heard    []kv.Owner
		isolated bool
	}{
		{0, nil, false},
		{1, nil, true},
		{1, []kv.Owner{1}, false},
		{2, []kv.Owner{1}, false},
		{2, nil, true},
		{3, []kv.Owner{1}, true}, // two of four
		{3, []kv.Owner{1, 2}, false},
		{4, []kv.Owner{1}, true},
		{4, []kv.Owner{1, 2}, false},
	} {
		c := circleOf(test.others)
		require.False(t, c.isolated(c.now), "who has just come is given time")
		c.passes(silence+time.Millisecond, test.heard...)
		require.Equal(t, test.isolated, c.isolated(c.now), "%+v", test)
	}
}

func TestPortThatRefusesTwiceIsOfAProcessThatHasEnded(t *testing.T) {
	c := circleOf(1)
	require.False(t, c.refused(1), "a port that was never heard of")
	require.False(t, c.refused(1))
	require.Empty(t, c.dead(c.now))

	c.says(1)
	require.True(t, c.refused(1), "to be tried again at once")
	require.Empty(t, c.dead(c.now))
	require.False(t, c.refused(1))
	require.Equal(t, []kv.Owner{1}, c.dead(c.now))
}

func TestAllLeasesOfAProcessThatHasEndedAreDead(t *testing.T) {
	c := circleOf(1)
	for _, owner := range []kv.Owner{2, 3} {
		c.found(owner, c.others[1].record, c.now)
	}
	c.comes(4)
	for owner := range c.others {
		c.says(owner)
	}
	require.True(t, c.refused(1))
	require.False(t, c.refused(2), "which of them was sent to is the same")
	require.Equal(t, []kv.Owner{1, 2, 3}, c.dead(c.now))
}

func TestPortThatRefusesAndIsHeardAgainIsNotBelieved(t *testing.T) {
	c := circleOf(1)
	c.says(1)
	require.True(t, c.refused(1))
	c.says(1)
	for range 3 {
		require.False(t, c.refused(1))
	}
	require.Empty(t, c.dead(c.now))

	c = circleOf(0)
	its := record{Key: []byte("process"), Silence: silence.Milliseconds()}
	c.found(1, its, c.now)
	c.says(1)
	c.refused(1)
	c.refused(1)
	c.gone(1)
	c.found(2, its, c.now) // it lives, and has joined anew
	c.says(2)
	for range 3 {
		require.False(t, c.refused(2), "its lease would be ended for ever")
	}
	require.Empty(t, c.dead(c.now))

	anew := circleOf(0) // of another lease of this process, whose own was ended
	anew.circle = newCircle(c.now, c.circle.refusals)
	anew.found(3, its, c.now)
	anew.says(3)
	for range 3 {
		require.False(t, anew.refused(3), "two that end each other's leases would do so for ever")
	}
	require.Empty(t, anew.dead(c.now))
}

func TestWhatIsRememberedOfRefusalsIsBounded(t *testing.T) {
	c := circleOf(0)
	for owner := kv.Owner(1); owner < 3*mostRefusals; owner++ {
		c.comes(owner)
		c.says(owner)
		c.refused(owner)
		c.gone(owner)
	}
	require.LessOrEqual(t, len(c.refusals.lies), mostRefusals)
}

func TestPacketThatIsSentAgainSaysNothing(t *testing.T) {
	c := circleOf(2)
	c.passes(0, 1, 2)
	old := packet{from: 2, number: c.number, accused: []kv.Owner{1}}
	c.passes(silence/2, 2)
	require.False(t, c.hear(old, c.now))
	require.Empty(t, c.others[2].accused)
	require.False(t, c.hear(packet{from: 3, number: 1}, c.now), "nobody knows it")
}

func TestLeaseWhoseSpaceIsClosedIsLeftToPass(t *testing.T) {
	c := circleOf(3)
	c.allHeard()
	c.number++
	require.True(t, c.hear(packet{from: 1, number: c.number, last: true}, c.now))
	c.refused(1)
	c.refused(1)
	for range 5 {
		c.passes(silence/2, 2, 3)
	}
	require.Empty(t, c.accused(c.now))
	require.Empty(t, c.dead(c.now))
}

func TestWhoHasOversleptAccusesNobody(t *testing.T) {
	c := circleOf(2)
	c.allHeard()
	c.passes(time.Hour)
	require.True(t, c.isolated(c.now))
	c.overslept(c.now)
	require.False(t, c.isolated(c.now))
	c.passes(time.Millisecond, 2)
	require.Empty(t, c.accused(c.now))
	require.False(t, c.isolated(c.now))
	c.passes(silence, 2)
	require.Equal(t, []kv.Owner{1}, c.accused(c.now))
}

func TestProcessWithAnotherPortIsAnother(t *testing.T) {
	c := circleOf(1)
	c.says(1)
	r := c.others[1].record
	require.False(t, c.found(1, r, c.now))
	require.False(t, c.others[1].heard.IsZero())
	r.Address = "elsewhere:1"
	require.True(t, c.found(1, r, c.now))
	require.True(t, c.others[1].heard.IsZero())
}
