package registrytest

import (
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// look asks what there is, by ID.
func (i *instance) look() map[string]libcluster.Recorded {
	i.Helper()
	survey, err := i.session.(libcluster.Planner).Look(i.within())
	require.NoError(i, err, "Look of %q", i.reg.Member.ID)
	all := make(map[string]libcluster.Recorded)
	for _, m := range survey.Members {
		require.NotContains(i, all, m.ID, "a member is there twice")
		all[m.ID] = m
	}
	return all
}

func lookingShowsWhatIsThereNow(s *suite) {
	p := s.join("p", passive())
	require.Empty(s, p.look())
	a := s.join("a", workers(2))
	b := s.join("b")
	for _, i := range []*instance{a, b, p} {
		found := i.look()
		require.Len(s, found, 2, "a passive session has no record")
		require.Equal(s, 2, found["a"].Workers)
		require.NotEmpty(s, found["a"].Incarnation)
		require.NotEmpty(s, found["b"].Incarnation)
		require.NotEqual(s, found["a"].Incarnation, found["b"].Incarnation)
		require.Less(s, found["a"].Since, found["b"].Since, "in the order in which they appeared")
	}
	was := p.look()["a"]
	a.update(5)
	require.Equal(s, 5, p.look()["a"].Workers, "what has returned before can be seen")
	require.Equal(s, was.Incarnation, p.look()["a"].Incarnation, "an update is of the same session")
	require.Equal(s, was.Since, p.look()["a"].Since, "an update is of the same record")
	s.join("a", workers(5))
	require.NotEqual(s, was.Incarnation, p.look()["a"].Incarnation, "of another session")
	require.Contains(s, a.look(), "a", "an instance that has lost its record may look")
	b.leave()
	require.NotContains(s, p.look(), "b")
	_, err := b.session.(libcluster.Planner).Look(s.briefly())
	require.Error(s, err, "Look after Leave")
}

func lookingIsAnybodysAtAnyTime(s *suite) {
	a := s.join("a")
	var looking sync.WaitGroup
	for range 4 {
		looking.Go(func() {
			for range 5 {
				if _, err := a.session.(libcluster.Planner).Look(s.within()); err != nil {
					s.Error(err)
				}
			}
		})
	}
	for n := range 5 {
		a.update(n + 2)
		_, err := a.session.Renew(s.within())
		require.NoError(s, err)
	}
	a.sees("a=6")
	looking.Wait()
}

func lookingShowsAReservedAssignment(s *suite) {
	p := s.join("p", passive())
	a := s.join("a", workers(2))
	was := p.look()["a"]
	a.leaveFor(longTTL, a.reg.Member)
	kept := p.look()["a"]
	require.Equal(s, 2, kept.Workers)
	require.NotEmpty(s, kept.Incarnation, "it will go by itself")
	require.NotEqual(s, was.Incarnation, kept.Incarnation, "it is not the session's any more")
	s.join("a").leave()
}

// An orphan is told by the list, by an event and by a look.
func orphansAreTold(s *suite) {
	orphans := func(i *instance) map[string]bool {
		i.Helper()
		all := map[string]bool{}
		for id, m := range i.look() {
			all[id] = m.Incarnation == ""
		}
		for id, orphan := range i.orphans {
			require.Equal(s, all[id], orphan, "an event and a look must agree on %q", id)
		}
		require.Len(s, all, len(i.orphans))
		return all
	}
	a := s.join("a")
	s.put("s", "3")
	a.sees("a=1 s=3")
	b := s.join("b")
	a.sees("a=1 b=1 s=3")
	b.sees("a=1 b=1 s=3")
	for _, i := range []*instance{a, b} {
		require.Equal(s, map[string]bool{"a": false, "b": false, "s": true}, orphans(i))
	}
	c := s.join("s", workers(2)) // somebody comes to stand behind it
	for _, i := range []*instance{a, b, c} {
		i.sees("a=1 b=1 s=2")
		require.Equal(s, map[string]bool{"a": false, "b": false, "s": false}, orphans(i))
	}
	s.put("garbage", "?")
	require.NotContains(s, a.look(), "garbage")
}
