package registrytest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// inEachPlan runs a test in each mode with a plan, in a cluster of its own.
func inEachPlan(test func(*suite)) func(*suite) {
	return func(s *suite) {
		key := s.key
		for _, s.mode = range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive} {
			s.key = key + " " + s.mode.String()
			test(s)
		}
	}
}

// planner is an instance in a mode with a plan, and what it has been told of that.
type planner struct {
	*instance
	libcluster.Planner
	now  libcluster.Planning
	seen int64 // the revision of its last survey
}

// plan joins in the suite's mode, and leaves when the test ends.
func (s *suite) plan(id string, options ...option) *planner {
	s.Helper()
	i := s.join(id, options...)
	p, ok := i.session.(libcluster.Planner)
	require.True(s, ok, "the session is no libcluster.Planner: %T; if it cannot be one, Capabilities must not have Plans", i.session)
	return &planner{instance: i, Planner: p}
}

// hear waits for one change of the plan and takes it in.
func (p *planner) hear(ctx context.Context) error {
	change, err := p.change(ctx)
	if err != nil {
		return err
	}
	p.changes++
	now := change.Planned
	switch {
	case now == nil || change.Reset || len(change.Events) > 0 || change.Assigned != nil || change.Generation != 0:
		return fmt.Errorf("a session with a plan reports that, and nothing else; got %+v", change)
	case (now.Plan == nil) != (now.Revision == 0):
		return fmt.Errorf("only a plan that is not there has no revision; got %+v", *now)
	case now.Revision < p.now.Revision:
		return fmt.Errorf("the plan's revision must not shrink: it was %d, got %d", p.now.Revision, now.Revision)
	case now.Revision == p.now.Revision && string(now.Plan) != string(p.now.Plan):
		return fmt.Errorf("the plan has changed and its revision %d has not: %q, %q", now.Revision, p.now.Plan, now.Plan)
	}
	p.now = *now
	return nil
}

// hears waits until Next has said that the plan and what the coordinator says are
// these. Empty: there is none.
func (p *planner) hears(plan, coordinator string) {
	p.Helper()
	require.NoError(p, p.awaits(p.within(), plan, coordinator))
	require.Equal(p, plan == "", p.now.Plan == nil, "a plan that is not there is nil")
	require.Equal(p, coordinator == "", p.now.Coordinator == nil, "what nobody says is nil")
}

// awaits is hears, but returns an error where hears fails the test.
func (p *planner) awaits(ctx context.Context, plan, coordinator string) error {
	for p.changes == 0 || p.told() != told(plan, coordinator) {
		if err := p.hear(ctx); err != nil {
			return fmt.Errorf("the plan did not become what was expected: %q expected %s, was told %s: %w",
				p.reg.Member.ID, told(plan, coordinator), p.told(), err)
		}
	}
	return nil
}

func (p *planner) told() string { return told(string(p.now.Plan), string(p.now.Coordinator)) }

func told(plan, coordinator string) string {
	return fmt.Sprintf("plan %.100q, coordinator %q", plan, coordinator)
}

// hearsNothing fails if Next returns within the time that the harness has for it.
func (p *planner) hearsNothing(why string) {
	p.Helper()
	err := p.hear(p.briefly())
	require.ErrorIs(p, err, context.DeadlineExceeded, "Next of %q: %s", p.reg.Member.ID, why)
}

// swap replaces the plan that p has been told of, which must work. It coordinates.
func (p *planner) swap(plan string) {
	p.Helper()
	before, ctx := p.now.Revision, p.within()
	require.NoError(p, p.Swap(ctx, before, []byte(plan)), "Swap by %q", p.reg.Member.ID)
	for p.now.Revision == before {
		require.NoError(p, p.hear(ctx), "Next of %q, which has swapped the plan", p.reg.Member.ID)
	}
	require.Equal(p, plan, string(p.now.Plan))
}

// claims reports whether p coordinates, having asked for it.
func (p *planner) claims(says string) bool {
	p.Helper()
	claimed, err := p.Claim(p.within(), []byte(says))
	require.NoError(p, err, "Claim by %q", p.reg.Member.ID)
	return claimed
}

func nextReportsThePlan(s *suite) {
	a, b := s.plan("a"), s.plan("b")
	watching := s.plan("p", passive())
	all := []*planner{a, b, watching}
	for _, p := range all {
		p.hears("", "")
		require.Equal(s, 1, p.changes, "the first Next returns what there is, at once")
	}
	binary := "\x00\xff\n" + strings.Repeat("plan", 64<<10)
	require.True(s, b.claims("b\nsays"))
	require.NoError(s, b.Swap(s.within(), 0, []byte(binary)))
	for _, p := range all {
		p.hears(binary, "b\nsays")
		p.hearsNothing("nothing more has happened")
	}
	late := s.plan("c")
	late.hears(binary, "b\nsays")
	require.Equal(s, 1, late.changes, "the first Next returns what there is, at once")
	b.swap("2")
	for _, p := range append(all, late) {
		p.hears("2", "b\nsays")
		require.Equal(s, b.now.Revision, p.now.Revision)
	}
}

// Members watch one plan and not each other, or a change of a large cluster would
// be told to all of them.
func membersDoNotWakeNext(s *suite) {
	a, b := s.plan("a"), s.plan("b")
	require.True(s, a.claims("a"))
	a.swap("1")
	a.hears("1", "a")
	b.hears("1", "a")
	c := s.plan("c")
	b.update(4)
	require.NoError(s, c.Acknowledge(s.within(), a.now.Revision, 1, ""))
	c.left.Store(true)
	require.NoError(s, c.Leave(s.within(), libcluster.Departure{Stopped: true}))
	a.hearsNothing("a member has come, changed, said that it has stopped, and gone")
}

// nextReportsMembersIfAsked: an application that wants to know of the others asks for them.
func nextReportsMembersIfAsked(s *suite) {
	b := s.plan("b", workers(2))
	a := s.plan("a", func(a *asked) { a.Members = true })
	first, err := a.change(s.within())
	require.NoError(s, err)
	require.True(s, first.Reset, "the first change has all members: %+v", first)
	require.NotNil(s, first.Planned, "and the plan: %+v", first)
	known := map[string]int{}
	take := func(change libcluster.Change) {
		if change.Reset {
			clear(known)
		}
		for _, e := range change.Events {
			if known[e.Member.ID] = e.Member.Workers; e.Gone {
				delete(known, e.Member.ID)
			}
		}
		if change.Planned != nil {
			a.now = *change.Planned
		}
	}
	take(first)
	require.Equal(s, map[string]int{"a": 1, "b": 2}, known)
	until := func(why string, ok func() bool) {
		for ctx := s.within(); !ok(); {
			change, err := a.change(ctx)
			require.NoError(s, err, why)
			take(change)
		}
	}
	b.update(5)
	until("a member changes", func() bool { return known["b"] == 5 })
	require.True(s, b.claims("b"))
	until("a member coordinates", func() bool { return string(a.now.Coordinator) == "b" })
	b.swap("1")
	until("the plan changes", func() bool { return string(a.now.Plan) == "1" })
	c := s.plan("c")
	until("a member comes", func() bool { return known["c"] == 1 })
	c.leave()
	until("a member goes", func() bool { return known["c"] == 0 })
	require.Equal(s, map[string]int{"a": 1, "b": 5}, known)
}

// refused has a Swap fail.
func (p *planner) refused(want error, revision int64, why string) {
	p.Helper()
	require.ErrorIs(p, p.Swap(p.within(), revision, []byte("no")), want, "Swap by %q: %s", p.reg.Member.ID, why)
}

func swapIsCompareAndSwap(s *suite) {
	w, a := s.plan("w"), s.plan("a")
	require.True(s, a.claims("a"))
	a.refused(libcluster.ErrPlanChanged, 7, "there is no plan")
	a.swap("1")
	first := a.now.Revision
	a.refused(libcluster.ErrPlanChanged, 0, "there is a plan")
	a.leave()
	b := s.plan("b")
	w.hears("1", "")
	require.True(s, b.claims("b"))
	b.refused(libcluster.ErrPlanChanged, 0, "there is a plan, of which the session that swaps has not been told")
	b.hears("1", "b")
	b.swap("2")
	b.refused(libcluster.ErrPlanChanged, first, "the plan is another one by now")
	b.refused(libcluster.ErrPlanChanged, 0, "there is a plan")
	b.refused(libcluster.ErrPlanChanged, b.now.Revision+1, "the plan has not come as far")
	second := b.now.Revision
	b.swap("2") // also with the same text it is another one
	require.Greater(s, b.now.Revision, second)
	w.hears("2", "b")
	s.plan("c").hears("2", "b")
}

// Who coordinated once may be of another mode than the members that are there now, or
// know less than the coordinator that came after: its late Swap must have no effect.
func swapNeedsTheCoordinator(s *suite) {
	a, b := s.plan("a"), s.plan("b")
	a.refused(libcluster.ErrNotCoordinator, 0, "nobody coordinates")
	require.True(s, a.claims("a"))
	b.refused(libcluster.ErrNotCoordinator, 0, "another coordinates")
	a.swap("1")
	b.hears("1", "a")
	b.refused(libcluster.ErrNotCoordinator, b.now.Revision, "another coordinates")
	require.Equal(s, "1", string(a.survey(0).Plan))
	a.leave()
	b.hears("1", "")
	b.refused(libcluster.ErrNotCoordinator, b.now.Revision, "nobody coordinates")
	require.True(s, b.claims("b"))
	b.swap("2")
}

func swapNeedsTheRecord(s *suite) {
	a, b := s.plan("a"), s.plan("b")
	require.True(s, a.claims("a"))
	again := s.plan("a")
	a.refused(libcluster.ErrInstanceTaken, 0, "another has its ID")
	require.NoError(s, s.h.Delete(s.within(), s.registry, s.cluster(), "a"))
	again.refused(libcluster.ErrRecordGone, 0, "its record has gone")
	require.Nil(s, b.survey(0).Plan)
}

func oneOfManySwapsWins(s *suite) {
	const swappers, rounds = 12, 10
	var all []*planner
	for n := range swappers {
		all = append(all, s.plan(fmt.Sprint("s", n)))
	}
	for round := range rounds {
		revision := all[0].now.Revision
		errs := make([]error, len(all))
		var swapping sync.WaitGroup
		for n, p := range all {
			swapping.Go(func() {
				if _, errs[n] = p.Claim(s.within(), []byte("s")); errs[n] == nil {
					errs[n] = p.Swap(s.within(), revision, fmt.Appendf(nil, "%d by %d", round, n))
				}
			})
		}
		swapping.Wait()
		winner := -1
		for n, err := range errs {
			if err == nil {
				require.Negative(s, winner, "two have swapped the plan of one revision")
				winner = n
			} else {
				require.ErrorIs(s, err, libcluster.ErrNotCoordinator)
			}
		}
		require.GreaterOrEqual(s, winner, 0, "somebody must have swapped the plan")
		for _, p := range all {
			p.hears(fmt.Sprintf("%d by %d", round, winner), "s")
			require.Greater(s, p.now.Revision, revision)
		}
		all[winner].leave()
		all = slices.Delete(all, winner, winner+1)
	}
}

func planOutlivesItsMembers(s *suite) {
	a, b := s.plan("a"), s.plan("b")
	require.True(s, a.claims("a"))
	a.swap("1")
	a.leave()
	b.left.Store(true)
	require.NoError(s, b.Leave(s.within(), libcluster.Departure{Stopped: true}))
	c := s.plan("c")
	c.hears("1", "")
	require.Equal(s, a.now.Revision, c.now.Revision)
	require.True(s, c.claims("c"))
	c.swap("2")
}

// With a plan Next says nothing of the members, not even of oneself: a heartbeat
// has to.
func lostRecordIsToldByRenew(s *suite) {
	gone, taken := s.plan("a"), s.plan("b")
	require.NoError(s, s.h.Delete(s.within(), s.registry, s.cluster(), "a"))
	newer := s.plan("b")
	for p, want := range map[*planner]error{gone: libcluster.ErrRecordGone, taken: libcluster.ErrInstanceTaken} {
		_, err := p.session.Renew(s.within())
		require.ErrorIs(s, err, want, "Renew of %q", p.reg.Member.ID)
		require.ErrorIs(s, p.session.Update(s.within(), p.with(7)), want, "Update of %q", p.reg.Member.ID)
	}
	members := newer.survey(0).Members
	require.Len(s, members, 1, "a record that was lost has come back")
	require.Equal(s, 1, members[0].Workers)
}

func planCallsReturnSoonAfterTheirContextEnds(s *suite) {
	a := s.plan("a")
	require.True(s, a.claims("a"))
	a.swap("1")
	survey := a.survey(0)
	err := s.returnsWithin(s.h.Quiet+s.h.soon, "Survey", func() error {
		_, err := a.Survey(s.briefly(), survey.Revision)
		return err
	})
	require.True(s, ended(err), "a Survey whose context has ended says so; got: %v", err)

	over, cancel := context.WithCancel(context.Background())
	cancel()
	s.returnsSoon("Survey", func() error { _, err := a.Survey(over, 0); return err })
	s.returnsSoon("Survey", func() error { _, err := a.Survey(over, survey.Revision); return err })
	s.returnsSoon("Claim", func() error { _, err := a.Claim(over, nil); return err })
	s.returnsSoon("Swap", func() error { return a.Swap(over, a.now.Revision, nil) })
	s.returnsSoon("Acknowledge", func() error { return a.Acknowledge(over, a.now.Revision, 1, "") })
	a.left.Store(true)
	s.returnsSoon("Leave", func() error { return a.Leave(over, libcluster.Departure{Stopped: true}) })
}

func closingEndsASurveyThatWaits(s *suite) {
	for _, end := range []func(*planner) error{
		func(p *planner) error { return p.tryLeave() },
		func(p *planner) error { return p.session.Close() },
		func(p *planner) error { return p.Leave(s.within(), libcluster.Departure{Stopped: true}) },
	} {
		b := s.plan("b")
		after := b.survey(0).Revision
		returned := make(chan error, 1)
		go func() {
			_, err := b.Survey(context.Background(), after)
			returned <- err
		}()
		select { // until it waits for sure
		case err := <-returned:
			require.FailNow(s, "Survey did not wait", "for a change while nothing happens: %v", err)
		case <-s.briefly().Done():
		}
		b.left.Store(true)
		require.NoError(s, end(b))
		_ = s.returnsSoon("Survey of a session that has ended", func() error { return <-returned })
	}
}

func plansOfClustersAreKeptApart(s *suite) {
	clusters := []struct{ partition, env string }{
		{"", "production"},
		{"", "p"},
		{"production", "p"},
		{"production", "plan"},
		{"p", "production"},
		{"drained", "production"},
	}
	var all []*planner
	for n, c := range clusters {
		p := s.plan("a", in(c.partition, c.env))
		p.hears("", "")
		require.True(s, p.claims(fmt.Sprint("coordinator ", n)))
		p.swap(fmt.Sprint("plan ", n))
		require.NoError(s, p.Acknowledge(s.within(), p.now.Revision, int64(n), ""))
		all = append(all, p)
	}
	for n, p := range all {
		p.hears(fmt.Sprint("plan ", n), fmt.Sprint("coordinator ", n))
		survey := p.survey(0)
		require.Len(s, survey.Members, 1)
		require.Equal(s, map[string]int64{p.Incarnation(): int64(n)}, survey.Acknowledged)
		require.Equal(s, p.now, survey.Planning)
	}
}

// directSessionSeesNoPlan: what a plan needs is no member's record.
func directSessionSeesNoPlan(s *suite) {
	a := s.plan("a")
	s.mode = libcluster.ModeDirect
	d := s.join("d")
	d.sees("a=1 d=1")
	require.True(s, a.claims("a"))
	a.swap("1")
	require.NoError(s, a.Acknowledge(s.within(), a.now.Revision, 1, ""))
	d.staysQuiet("a plan has changed")
	s.join("e").sees("a=1 d=1 e=1")
}
