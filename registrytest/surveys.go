package registrytest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/elapsed"
)

// survey takes one, which must work.
func (p *planner) survey(after int64) libcluster.Survey {
	p.Helper()
	survey, err := p.Survey(p.within(), after)
	require.NoError(p, err, "Survey by %q", p.reg.Member.ID)
	require.NoError(p, p.check(survey))
	return survey
}

// check says what is wrong with a survey by itself, or after the last one.
func (p *planner) check(survey libcluster.Survey) error {
	if survey.Revision <= 0 || survey.Revision < p.seen {
		return fmt.Errorf("a survey is of no earlier time than the one before: it was %d, got %d", p.seen, survey.Revision)
	}
	p.seen = survey.Revision
	for _, m := range survey.Members {
		if m.Since <= 0 {
			return fmt.Errorf("since when %q is there must be told: %+v", m.ID, m)
		}
	}
	return nil
}

// surveys takes surveys until one is as wanted.
func (p *planner) surveys(want string, ok func(libcluster.Survey) bool) libcluster.Survey {
	p.Helper()
	ctx := p.within()
	survey := p.survey(0)
	for !ok(survey) {
		next, err := p.Survey(ctx, survey.Revision)
		require.NoError(p, err, "%q expected %s, but the last was: %+v", p.reg.Member.ID, want, survey)
		require.NoError(p, p.check(next))
		survey = next
	}
	return survey
}

// surveysNothing fails if Survey returns within the time that the harness has.
func (p *planner) surveysNothing(after int64, why string) {
	p.Helper()
	survey, err := p.Survey(p.briefly(), after)
	require.Error(p, err, "%s: %+v", why, survey)
	require.True(p, ended(err), "Survey of %q: %s: %v", p.reg.Member.ID, why, err)
}

// found returns the record of an ID.
func found(survey libcluster.Survey, id string) (libcluster.Recorded, bool) {
	i := slices.IndexFunc(survey.Members, func(m libcluster.Recorded) bool { return m.ID == id })
	if i < 0 {
		return libcluster.Recorded{}, false
	}
	return survey.Members[i], true
}

func (s *suite) has(survey libcluster.Survey, id string) libcluster.Recorded {
	s.Helper()
	m, ok := found(survey, id)
	require.True(s, ok, "%q is in no record of %+v", id, survey)
	return m
}

func surveyTellsAll(s *suite) {
	full := libcluster.Member{
		ID: "c", Workers: 3, Address: "192.0.2.1:80", Version: "1.2 <β>", Metadata: map[string]string{"zone": "a"},
	}
	c := s.plan("c", func(a *asked) { a.Member = full })
	require.Equal(s, libcluster.Planning{}, c.survey(0).Planning, "there is no plan yet")
	b, a := s.plan("b", workers(2)), s.plan("a")
	s.plan("p", passive())
	require.True(s, b.claims("b says"))
	b.swap("the plan")
	a.hears("the plan", "b says")
	c.hears("the plan", "b says")
	require.NoError(s, c.Acknowledge(s.within(), c.now.Revision, 41, ""))
	require.NoError(s, b.Acknowledge(s.within(), a.now.Revision, 42, ""))
	b.update(5)

	for _, p := range []*planner{a, b, c} {
		survey := p.survey(0)
		require.Equal(s, a.now, survey.Planning)
		require.Len(s, survey.Members, 3, "all members and no passive instance")
		slices.SortFunc(survey.Members, func(x, y libcluster.Recorded) int { return int(x.Since - y.Since) })
		for n, want := range []*planner{c, b, a} { // as they have come
			got := survey.Members[n]
			require.Equal(s, want.reg.Member.ID, got.ID, "Since grows in the order in which records have appeared")
			require.Equal(s, want.Incarnation(), got.Incarnation)
		}
		require.Equal(s, full, s.has(survey, "c").Member, "everything that a member publishes")
		require.Equal(s, 5, s.has(survey, "b").Workers)
		require.Equal(s, map[string]int64{c.Incarnation(): 41, b.Incarnation(): 42}, survey.Acknowledged)
	}
}

func incarnationsAreNeverTheSame(s *suite) {
	w := s.plan("w")
	known := map[string]bool{w.Incarnation(): true}
	var last *planner
	for n := range 4 {
		var options []option
		if n == 2 {
			options = append(options, after(last.instance))
		}
		p := s.plan("a", options...)
		require.NotEmpty(s, p.Incarnation())
		require.False(s, known[p.Incarnation()], "two sessions are one incarnation: %q", p.Incarnation())
		require.Equal(s, p.Incarnation(), s.has(w.survey(0), "a").Incarnation)
		known[p.Incarnation()] = true
		if n == 0 {
			p.leave()
		}
		last = p
	}
}

// surveyWaits has each kind of change wake one who waits for it.
func surveyWaits(s *suite) {
	a, b := s.plan("a"), s.plan("b")
	var c *planner
	changes := []struct {
		name string
		make func()
	}{
		{"a member joins", func() { c = s.plan("c") }},
		{"a member changes", func() { c.update(3) }},
		{"a member is replaced", func() { c = s.plan("c", after(c.instance)) }},
		{"another coordinates", func() { require.True(s, b.claims("b")); a.hears("", "b") }},
		{"another swaps the plan", func() { b.swap("1"); a.hears("1", "b") }},
		{"a member has stopped", func() { c.hears("1", "b"); require.NoError(s, c.Acknowledge(s.within(), c.now.Revision, 1, "")) }},
		{"it has again", func() { require.NoError(s, c.Acknowledge(s.within(), c.now.Revision, 2, "")) }},
		{"a member leaves", func() { c.leave() }},
		{"another swaps the plan again", func() { b.swap("2"); a.hears("2", "b") }},
		{"it says something else", func() { require.True(s, b.claims("b2")); a.hears("2", "b2") }},
		{"it leaves drained", func() {
			b.left.Store(true)
			require.NoError(s, b.Leave(s.within(), libcluster.Departure{Stopped: true}))
			a.hears("2", "")
		}},
		{"one changes oneself", func() { a.update(7) }},
		{"one has stopped oneself", func() { require.NoError(s, a.Acknowledge(s.within(), a.now.Revision, 1, "")) }},
	}
	survey := a.survey(0)
	for _, change := range changes {
		a.surveysNothing(survey.Revision, "before: "+change.name)
		change.make()
		before := survey
		survey = a.survey(before.Revision)
		require.Greater(s, survey.Revision, before.Revision, change.name)
		require.Equal(s, a.now, survey.Planning, change.name)
		require.NotEqual(s, before, survey, change.name)
	}
	require.Len(s, survey.Members, 1)
	require.Equal(s, 7, survey.Members[0].Workers)

	// With the change before the call, or while it waits.
	changed := make(chan error, 1)
	go func() {
		<-s.briefly().Done()
		changed <- a.session.Update(s.within(), a.with(8))
	}()
	require.Equal(s, 8, a.survey(survey.Revision).Members[0].Workers)
	require.NoError(s, <-changed)
}

func surveyIsNotWokenByOnesOwnDoing(s *suite) {
	a := s.plan("a")
	survey := a.survey(0)
	require.True(s, a.claims("a"))
	a.swap("1")
	require.True(s, a.claims("a2"))
	a.swap("2")
	a.surveysNothing(survey.Revision, "it has swapped and claimed itself")
	s.plan("b") // and then there is something
	later := a.survey(survey.Revision)
	require.Len(s, later.Members, 2)
	require.Equal(s, "2", string(later.Plan))
	require.Equal(s, "a2", string(later.Coordinator))

	// What others did before is not hidden by what one did after.
	s.plan("c")
	a.swap("3")
	last := a.survey(later.Revision)
	require.Len(s, last.Members, 3)
	require.Equal(s, "3", string(last.Plan))
	a.surveysNothing(last.Revision, "that was all")
}

// surveyIsNoMixture has one write a number in two places, one after the other, and
// looks at both.
func surveyIsNoMixture(s *suite) {
	const rounds = 100
	a, b := s.plan("a"), s.plan("b")
	require.True(s, b.claims("b"))
	b.hears("", "b")
	writing := make(chan error, 1)
	go func() {
		for n := 1; n <= rounds; n++ {
			if err := b.session.Update(s.within(), b.with(n)); err != nil {
				writing <- err
				return
			}
			revision := b.now.Revision
			if err := b.Swap(s.within(), revision, fmt.Append(nil, n)); err != nil {
				writing <- err
				return
			}
			for b.now.Revision == revision {
				if err := b.hear(s.within()); err != nil {
					writing <- err
					return
				}
			}
		}
		writing <- nil
	}()
	planned, published := 0, 0
	for n := 0; planned < rounds; n++ {
		after := a.seen
		if n%5 == 0 {
			after = 0
		}
		survey := a.survey(after)
		nowPlanned := 0
		fmt.Sscan(string(survey.Plan), &nowPlanned)
		nowPublished := s.has(survey, "b").Workers
		require.GreaterOrEqual(s, nowPlanned, planned, "a survey of an earlier time")
		require.GreaterOrEqual(s, nowPublished, published, "a survey of an earlier time")
		planned, published = nowPlanned, nowPublished
		require.True(s, published == planned || published == planned+1 || planned == 0 && published == 1,
			"the plan says %d and the record %d, which was so at no instant", planned, published)
	}
	require.NoError(s, <-writing)
}

func acknowledgementIsForOnePlan(s *suite) {
	a, b := s.plan("a"), s.plan("b")
	require.True(s, a.claims("a"))
	a.swap("1")
	first := a.now.Revision
	require.NoError(s, b.Acknowledge(s.within(), first, 5, ""), "for the present plan")
	require.NoError(s, b.Acknowledge(s.within(), first, 5, ""), "again")
	a.swap("2")
	require.ErrorIs(s, b.Acknowledge(s.within(), first, 6, ""), libcluster.ErrPlanChanged, "for the plan before")
	require.ErrorIs(s, b.Acknowledge(s.within(), a.now.Revision+1, 6, ""), libcluster.ErrPlanChanged, "for no plan")
	require.Equal(s, map[string]int64{b.Incarnation(): 5}, a.survey(0).Acknowledged)
	require.NoError(s, b.Acknowledge(s.within(), a.now.Revision, 7, ""))
	require.Equal(s, map[string]int64{b.Incarnation(): 7}, a.survey(0).Acknowledged)
	require.Empty(s, a.survey(0).Remaining)
	require.NoError(s, b.Acknowledge(s.within(), a.now.Revision, 8, "3-4,9"), "but for some partitions")
	some := a.survey(0)
	require.Equal(s, map[string]int64{b.Incarnation(): 8}, some.Acknowledged)
	require.Equal(s, map[string]string{b.Incarnation(): "3-4,9"}, some.Remaining)
	require.NoError(s, b.Acknowledge(s.within(), a.now.Revision, 8, ""), "and then for these too")
	require.Empty(s, a.survey(0).Remaining)
}

func oneThatIsOverHasNoSay(s *suite) {
	w, gone, taken := s.plan("w", s.outliving()), s.plan("a", s.outliving()), s.plan("b", s.outliving())
	planning := s.plan("x")
	require.True(s, planning.claims("x"))
	planning.swap("1")
	planning.leave()
	w.hears("1", "")
	require.NoError(s, s.h.Delete(s.within(), s.registry, s.cluster(), "a"))
	newer := s.plan("b", s.outliving())
	over := map[*planner]error{gone: libcluster.ErrRecordGone, taken: libcluster.ErrInstanceTaken}
	if s.h.has(expiry) {
		expired := s.plan("c", ttl(s.h.TTL))
		ctx, cancel := context.WithTimeout(context.Background(), expired.granted+s.h.Patience)
		defer cancel()
		for survey := w.survey(0); len(survey.Members) > 2; {
			var err error
			survey, err = w.Survey(ctx, survey.Revision)
			require.NoError(s, err, "a record that is not renewed must expire")
		}
		over[expired] = libcluster.ErrRecordGone
	}
	for p, want := range over {
		err := p.Acknowledge(s.within(), w.now.Revision, 1, "")
		require.ErrorIs(s, err, want, "Acknowledge of %q", p.reg.Member.ID)
		claimed, _ := p.Claim(s.within(), nil) // may say why not
		require.False(s, claimed, "Claim of %q", p.reg.Member.ID)
		p.left.Store(true)
		_ = p.Leave(s.within(), libcluster.Departure{Stopped: true}) // may say why it has no effect
	}
	survey := w.survey(0)
	require.Empty(s, survey.Acknowledged, "one that is over has said nothing")
	require.Nil(s, survey.Coordinator)
	require.Equal(s, newer.Incarnation(), s.has(survey, "b").Incarnation, "nor has it taken anybody's record away")
	_, there := found(survey, "a")
	require.False(s, there)
}

// leavingStoppedIsOneStep: a session that sees that the record has gone sees the note.
func leavingStoppedIsOneStep(s *suite) {
	w := s.plan("w")
	for n := range 10 {
		a := s.plan("a")
		var leaving sync.WaitGroup
		a.left.Store(true)
		var failed error
		leaving.Go(func() { failed = a.Leave(s.within(), libcluster.Departure{Stopped: true}) })
		survey := w.surveys("a to leave", func(survey libcluster.Survey) bool {
			_, there := found(survey, "a")
			_, noted := survey.Acknowledged[a.Incarnation()]
			require.NotEqual(s, there, noted, "round %d: a record and a note that it has gone", n)
			return noted
		})
		leaving.Wait()
		require.NoError(s, failed)
		require.EqualValues(s, int64(math.MaxInt64), libcluster.StoppedForGood)
		require.EqualValues(s, libcluster.StoppedForGood, survey.Acknowledged[a.Incarnation()])
		_, err := a.session.Renew(s.briefly())
		require.Error(s, err, "Renew after Leave")
		require.Error(s, s.returnsSoon("Next after Leave", func() error { return a.nothing(s.within()) }))
	}
}

func leavingStoppedForARestartKeepsTheRecord(s *suite) {
	w, a := s.plan("w"), s.plan("a", workers(4))
	first := s.has(w.survey(0), "a")
	a.left.Store(true)
	parked := a.reg.Member
	parked.Address = "192.0.2.1:80"
	require.NoError(s, a.Leave(s.within(), libcluster.Departure{Reserve: longTTL, Last: parked, Stopped: true}))
	survey := w.survey(0)
	kept := s.has(survey, "a")
	require.Equal(s, parked.Address, kept.Address)
	require.Equal(s, first.Since, kept.Since, "it is the same record")
	require.NotEmpty(s, kept.Incarnation, "a session wrote it, and no other program")
	require.NotEqual(s, a.Incarnation(), kept.Incarnation, "the session does not hold it any more")
	require.EqualValues(s, libcluster.StoppedForGood, survey.Acknowledged[a.Incarnation()])

	again := s.plan("a", workers(4))
	back := s.has(w.survey(0), "a")
	require.Equal(s, again.Incarnation(), back.Incarnation)
	require.Equal(s, first.Since, back.Since, "an instance that comes back has kept its record")
	_, err := again.session.Renew(s.within())
	require.NoError(s, err, "Renew after coming back")
}

func leavingStoppedForARestartThatNeverComes(s *suite) {
	w, a := s.plan("w", s.outliving()), s.plan("a")
	a.left.Store(true)
	sent := time.Now()
	require.NoError(s, a.Leave(s.within(), libcluster.Departure{Reserve: s.h.TTL, Last: a.reg.Member, Stopped: true}))
	ctx, cancel := context.WithTimeout(context.Background(), s.h.TTL+s.h.Patience)
	defer cancel()
	survey := w.survey(0)
	for len(survey.Members) > 1 {
		next, err := w.Survey(ctx, survey.Revision)
		require.NoError(s, err, "the record must go: %+v", survey)
		survey = next
	}
	require.GreaterOrEqual(s, elapsed.Since(sent), s.h.TTL, "the record stays for as long as was asked for")
}

// In mode exclusive an instance rejoins when its application has stopped.
func rejoiningNotesThePreviousIncarnation(s *suite) {
	s.mode = libcluster.ModeExclusive
	w, first := s.plan("w"), s.plan("a")
	first.close()
	second := s.plan("a", after(first.instance))
	survey := w.survey(0)
	require.Equal(s, second.Incarnation(), s.has(survey, "a").Incarnation)
	require.Equal(s, map[string]int64{first.Incarnation(): libcluster.StoppedForGood}, survey.Acknowledged)

	// Not so when the ID is somebody else's by now: nothing has joined.
	second.close()
	third := s.plan("a")
	_, err := s.tryJoin("a", after(second.instance))
	require.ErrorIs(s, err, libcluster.ErrInstanceTaken)
	survey = w.survey(0)
	require.NotContains(s, survey.Acknowledged, second.Incarnation())
	require.Equal(s, third.Incarnation(), s.has(survey, "a").Incarnation)
}

func rejoiningNotesAPreviousIncarnationWhoseRecordIsGone(s *suite) {
	s.mode = libcluster.ModeExclusive
	w, first := s.plan("w"), s.plan("a")
	require.NoError(s, s.h.Delete(s.within(), s.registry, s.cluster(), "a"))
	first.close()
	second := s.plan("a", after(first.instance))
	survey := w.survey(0)
	require.Equal(s, second.Incarnation(), s.has(survey, "a").Incarnation)
	require.Equal(s, map[string]int64{first.Incarnation(): libcluster.StoppedForGood}, survey.Acknowledged)
}

func garbageIsNoMemberInASurvey(s *suite) {
	a := s.plan("a")
	s.putGarbage()
	b := s.plan("b")
	s.putGarbage()
	for _, p := range []*planner{a, b} {
		require.Len(s, p.survey(0).Members, 2, "what other programs have written is no member's record")
		p.hears("", "")
		p.hearsNothing("other programs have written what is no plan")
	}
	var ids []string
	survey := a.survey(0)
	for _, m := range survey.Members {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	require.Equal(s, "a b", strings.Join(ids, " "))
	require.Empty(s, survey.Acknowledged)

	// What counts in the other modes is told, and whose it is: nobody's.
	s.put("s", "3")
	stranger := s.has(a.survey(0), "s")
	require.Equal(s, 3, stranger.Workers)
	require.Empty(s, stranger.Incarnation)
	require.NoError(s, s.h.Put(s.within(), s.registry, s.cluster(), "b", []byte("5")))
	require.Empty(s, s.has(a.survey(0), "b").Incarnation, "another program has overwritten it")
	_, err := b.session.Renew(s.within())
	require.ErrorIs(s, err, libcluster.ErrRecordGone)
}
