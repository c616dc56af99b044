package libcluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drawHolders draws a plan of mode cooperative: each partition is kept by one incarnation, or
// is to be released by any number of them.
func drawHolders(t *rapid.T) *plan {
	n := rapid.IntRange(1, 24).Draw(t, "partitions")
	p := &plan{mode: ModeCooperative, generation: rapid.Int64Range(1, 1<<40).Draw(t, "generation"), total: n}
	lines := rapid.IntRange(0, 5).Draw(t, "lines")
	owners := rapid.SliceOfN(rapid.IntRange(noOwner, lines-1), n, n).Draw(t, "owners")
	for i, held := range partitionsOf(owners, lines) {
		of := Member{ID: fmt.Sprint("m", rapid.IntRange(0, i).Draw(t, "ID")), Workers: rapid.IntRange(1, 4).Draw(t, "workers")}
		of.Address = rapid.SampledFrom([]string{"", "10.0.0.1:80", "host name", "ünï"}).Draw(t, "address")
		l := planned{incarnation: fmt.Sprintf("%x", 77+i), window: window(DefaultTTL), Assignment: Assignment{Member: of, Index: held.first(), held: held}}
		for n, o := range owners {
			if o == noOwner && rapid.Bool().Draw(t, "releases") {
				l.releases = l.releases.grow(span{n, n + 1})
			}
		}
		p.lines = append(p.lines, l)
	}
	p.committed = !slices.ContainsFunc(p.lines, func(l planned) bool { return len(l.releases) > 0 })
	return p
}

func TestAPlanOfPartitionsIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { requireRead(t, drawHolders(t)) })
}

func TestAPlanOfPartitionsThatTwoMayActOnIsAnError(t *testing.T) {
	const head = "cooperative\tcommit\t1\t8\n"
	for _, c := range []struct{ text, want string }{
		{"cooperative\tcommit\t1\t0\n", "it has no partitions"},
		{"cooperative\tcommit\t1\t65537\n", "65537"},
		{head + "x\t0\t1\ta\t\t0-8\t\n", "the last partition is 7"},
		{head + "x\t0\t1\ta\t\t0\t8\n", "the last partition is 7"},
		{head + "x\t0\t1\ta\t\t0-3\t\ny\t0\t1\tb\t\t3\t\n", "partition 3 has two owners"},
		{head + "x\t0\t1\ta\t\t0-3\t\ny\t0\t1\tb\t\t4\t2\n", "is to release 2, of which"},
		{head + "x\t0\t1\ta\t\t0-3\t3\n", "is to release 3, of which"},
		{head + "x\t0\t1\ta\t\t0\t\nx\t0\t1\tb\t\t1\t\n", "there twice"},
		{head + "x\t0\t1\ta\t\t0\n", "not a member's line"},
		{head + "x\t0\t1\ta\t\t0\t\t\n", "not a member's line"},
		{head + "\t0\t1\ta\t\t0\t\n", "names no incarnation"},
		{head + "x\t0\t1\ta/b\t\t0\t\n", "ID"},
		{head + "x\t0\t0\ta\t\t0\t\n", "number"},
	} {
		_, err := parsePlan([]byte(c.text))
		require.ErrorContains(t, err, c.want, "%q", c.text)
		require.Less(t, len(err.Error()), 400)
	}
}

// crew is a cluster of mode cooperative as a coordinator finds it.
type crew struct {
	base   *plan
	survey Survey
	gone   map[string]bool // incarnations without a record
	fixed  bool            // those whose time is over
}

// drawCrew draws a plan, and who of it is there, is away, has left, and has stopped what; and
// newcomers.
func drawCrew(t *rapid.T, base *plan, away bool) *crew {
	c := &crew{base: base, gone: map[string]bool{}, survey: Survey{Acknowledged: map[string]int64{}, Remaining: map[string]string{}}}
	c.survey.Revision, c.survey.Planning.Revision, c.survey.Plan = 1, 1, base.encode()
	there := map[string]bool{}
	for _, l := range base.lines {
		kinds := []string{"there", "has stopped", "has stopped some", "has stopped for another plan"}
		if away {
			kinds = append(kinds, "away", "has left")
		}
		kind := rapid.SampledFrom(kinds).Draw(t, "kind")
		if there[l.ID] {
			kind = "away" // its successor has its record
		}
		switch kind {
		case "away":
			c.gone[l.incarnation] = true
			continue
		case "has left":
			c.survey.Acknowledged[l.incarnation] = StoppedForGood
			continue
		case "has stopped":
			c.survey.Acknowledged[l.incarnation] = base.generation
		case "has stopped some":
			c.survey.Acknowledged[l.incarnation] = base.generation
			c.survey.Remaining[l.incarnation] = l.releases[:len(l.releases)/2].String()
		case "has stopped for another plan":
			c.survey.Acknowledged[l.incarnation] = base.generation - 1
		}
		there[l.ID] = true
		c.enters(l.ID, l.incarnation, l.Workers, rapid.IntRange(0, 5).Draw(t, "drains") == 0)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "newcomers") {
		if id := fmt.Sprint("m", 3+i); !there[id] {
			c.enters(id, fmt.Sprint("new", i), rapid.IntRange(1, 4).Draw(t, "workers"), false)
		}
	}
	return c
}

func (c *crew) enters(id, incarnation string, workers int, draining bool) {
	r := recorded(id, incarnation, workers, 0)
	r.Since, r.plans.scheme, r.plans.draining = int64(len(c.survey.Members)+1), c.base.scheme(), draining
	c.survey.Members = append(c.survey.Members, r)
}

// mayAct is the dumb twin of what incarnations may act on.
func (c *crew) mayAct(l planned, partition int) bool {
	switch drained := c.survey.Acknowledged[l.incarnation]; {
	case drained == StoppedForGood, c.gone[l.incarnation] && c.fixed:
		return false
	case l.held.has(partition):
		return true
	case !l.releases.has(partition):
		return false
	case drained == c.base.generation && !c.gone[l.incarnation]:
		but, _ := parsePartitions(c.survey.Remaining[l.incarnation], c.base.total)
		return but.has(partition)
	}
	return true
}

// requireSafe fails if a plan grants what another incarnation may act on, or forgets one that
// may act.
func (c *crew) requireSafe(t *rapid.T, next *plan) {
	read, err := parsePlan(next.encode())
	require.NoError(t, err)
	require.Equal(t, next.encode(), read.encode())
	lines := map[string]planned{}
	for _, l := range next.lines {
		lines[l.incarnation] = l
	}
	for n := range c.base.total {
		for _, b := range c.base.lines {
			if !c.mayAct(b, n) {
				continue
			}
			own := lines[b.incarnation]
			require.True(t, own.held.has(n) || own.releases.has(n), "%s may act on %d, and the plan does not say so", b.incarnation, n)
			for _, l := range next.lines {
				require.False(t, l.held.has(n) && l.incarnation != b.incarnation, "%s gets %d, and %s may act on it", l.incarnation, n, b.incarnation)
			}
		}
	}
}

func (c *crew) coordinator() *deciding {
	return &deciding{scheme: c.base.scheme(), incarnation: "coordinator"}
}

// decide returns what a coordinator decides at once, or when those that are away must have
// stopped and no partition waits for another one.
func (c *crew) decide(d *deciding) *plan {
	if next := d.decide(c.survey, later(0), 0).next; next != nil && !c.fixed {
		return next
	}
	if c.fixed {
		return d.decide(c.survey, later(time.Hour), 0).next
	}
	return nil
}

func TestAPlanGrantsNothingThatAnotherMayActOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCrew(t, drawHolders(t), true)
		d := c.coordinator()
		if next := c.decide(d); next != nil {
			c.requireSafe(t, next)
			return
		}
		c.fixed = true
		if next := c.decide(d); next != nil {
			c.requireSafe(t, next)
		}
	})
}

// requireShared fails unless a plan is at rest: the members have all, in fair shares.
func (c *crew) requireShared(t *rapid.T, p *plan) {
	require.True(t, p.committed)
	require.Len(t, p.lines, len(c.survey.Members))
	requireBalanced(t, p.ownersAmong(c.survey.sorted()), weightsOf(c.survey.sorted()))
}

// settle has all stop what they are to stop, at once, until no plan follows. It returns the last
// plan, how many there were, and how many partitions one had that goes on, and had to stop.
func (c *crew) settle(t *rapid.T) (last *plan, plans, stopped int) {
	d := c.coordinator()
	c.decide(d) // it sees who is away
	c.fixed = true
	for plans = 0; ; plans++ {
		require.Less(t, plans, 4)
		next := c.decide(d)
		if next == nil && plans == 0 { // it waits for what the first plan has released
			c.acknowledge()
			next = c.decide(d)
		}
		if next == nil {
			return c.base, plans, stopped
		}
		c.requireSafe(t, next)
		for _, l := range next.lines {
			for _, b := range c.base.lines {
				if b.incarnation == l.incarnation {
					stopped += b.held.and(l.releases).count()
				}
			}
		}
		c.base, c.survey.Plan = next, next.encode()
		c.survey.Planning.Revision++
		c.acknowledge()
	}
}

// acknowledge has all that are there say that they have stopped what they are to release.
func (c *crew) acknowledge() {
	for _, l := range c.base.lines {
		if !c.gone[l.incarnation] && c.survey.Acknowledged[l.incarnation] != StoppedForGood {
			c.survey.Acknowledged[l.incarnation] = c.base.generation
			delete(c.survey.Remaining, l.incarnation)
		}
	}
}

func TestAChangeComesToRestWithTheFewestStops(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCrew(t, drawHolders(t), rapid.Bool().Draw(t, "some are away"))
		if len(c.survey.Members) == 0 {
			return
		}
		last, plans, _ := c.settle(t)
		c.requireShared(t, last)
		if last == nil || plans == 0 {
			return
		}

		// From rest to rest: two plans, and no partition stops that does not have to move.
		rested := last
		c = drawCrew(t, rested, false)
		before := rested.ownersAmong(c.survey.sorted())
		least := leastMovedPartitions(before, weightsOf(c.survey.sorted()))
		last, plans, stopped := c.settle(t)
		c.requireShared(t, last)
		require.Equal(t, least, stopped)
		require.LessOrEqual(t, plans, 2)
		again, plans, stopped := c.settle(t)
		require.Equal(t, last, again)
		require.Zero(t, plans+stopped)
	})
}
