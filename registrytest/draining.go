package registrytest

import (
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// drains notes that an instance is to give its assignment away, or takes that back.
func (i *instance) drains(id string, draining bool) {
	i.Helper()
	require.NoError(i, i.session.(libcluster.Planner).SetDraining(i.within(), id, draining), "SetDraining by %q", i.reg.Member.ID)
}

func drainingIsReported(s *suite) {
	a, p := s.plan("a"), s.plan("p", passive())
	hears := func(i *planner, want []string) {
		s.Helper()
		for ctx := s.within(); !slices.Equal(want, i.now.Draining) || i.changes == 0; {
			require.NoError(s, i.hear(ctx), "Next of %q, told of %q instead of %q", i.reg.Member.ID, i.now.Draining, want)
		}
	}
	hears(a, nil)
	before := a.survey(0)
	p.drains("z", true)
	p.drains("b", true)
	p.drains("b", true)
	want := []string{"b", "z"}
	hears(a, want)
	hears(p, want)
	for told := before; !slices.Equal(want, told.Draining); { // the coordinator, of one after the other
		told = a.survey(told.Revision)
	}
	hears(s.plan("c"), want)
	survey, err := p.Look(s.within())
	require.NoError(s, err)
	require.Equal(s, want, survey.Draining)
	require.Len(s, survey.Members, 2, "and that is no member's record")
	a.drains("b", false)
	a.drains("z", false)
	a.drains("z", false)
	hears(a, nil)
	a.leave()
	p.drains("c", true)
	hears(p, []string{"c"})
}

func drainedSessionLeaves(s *suite) {
	a, b := s.join("a"), s.join("b")
	b.drains("a", true)
	err := a.next(s.within())
	for err == nil {
		err = a.next(s.within())
	}
	require.ErrorIs(s, err, libcluster.ErrDrained, "Next")
	a.leave()
	b.sees("b=1")
	for range 2 {
		_, err := s.tryJoin("a", after(a))
		require.ErrorIs(s, err, libcluster.ErrDrained, "Join of the same membership")
		_, err = s.tryJoin("a")
		require.ErrorIs(s, err, libcluster.ErrDrained, "Join of another one")
	}
	b.staysQuiet("none has joined")
	s.join("p", passive()).sees("b=1")
	b.drains("a", false)
	s.join("a", after(a))
	b.sees("a=1 b=1")
}
