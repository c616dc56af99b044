package registrytest

import (
	"fmt"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

func listAtJoiningIsComplete(s *suite) {
	full := libcluster.Member{
		ID: "b", Workers: 3, Address: "192.0.2.1:80", Version: "1.2 <β>",
		Metadata: map[string]string{"zone": "a", "": "empty key", "quote": `"`},
	}
	s.join("a", workers(2))
	s.join("b", func(a *asked) { a.Member = full })
	c := s.join("c", workers(libcluster.MaxWorkers))
	if !s.h.has(order) {
		c.sees(fmt.Sprintf("a=2 b=3 c=%d", libcluster.MaxWorkers))
	} else {
		require.NoError(s, c.next(s.within()), "the first Next")
	}
	want := map[string]libcluster.Member{
		"a": {ID: "a", Workers: 2}, "b": full, "c": {ID: "c", Workers: libcluster.MaxWorkers},
	}
	require.Equal(s, want, c.members, "the list at joining, with everything that the members publish")
}

// A Next that is late returns the list of then, not of now: what came in between
// follows, and the changes of a whole cluster fit together.
func listAtJoiningIsOfThatInstant(s *suite) {
	s.join("a")
	b := s.join("b")
	c := s.join("c")
	c.update(5)
	require.NoError(s, b.next(s.within()), "the first Next")
	require.Equal(s, "a=1 b=1", b.seen(), "the list at joining holds no member that came later")
	b.sees("a=1 b=1 c=5")
}

func changesArriveInOrderAndOnce(s *suite) {
	a := s.join("a")
	a.sees("a=1")
	a.history = nil

	var want []string
	for round := range 5 {
		b := s.join("b", workers(10+round))
		want = append(want, fmt.Sprintf("b=%d", 10+round))
		for n := range 5 {
			b.update(20 + n)
			want = append(want, fmt.Sprintf("b=%d", 20+n))
			if n == round { // now and then, so that some changes come together
				require.NoError(s, a.next(s.within()))
			}
		}
		b.leave()
		want = append(want, "b gone")
	}
	z := s.join("z")
	want = append(want, "z=1")
	a.sees("a=1 z=1")
	require.Equal(s, want, a.history, "every join, change and leave of the others, each once and in order")
	z.leave()
	a.sees("a=1")
	a.staysQuiet("nothing more has happened")
}

// sameGenerationMeansSameMembers has several sessions watch a lively cluster and
// compares what they saw at each generation that they have in common.
func sameGenerationMeansSameMembers(s *suite) {
	watchers := []*instance{s.join("a"), s.join("m"), s.join("x"), s.join("p", passive())}
	saw := make([]map[int64]string, len(watchers))
	errs := make(chan error, len(watchers)+3)
	var watching, changing sync.WaitGroup
	for n, w := range watchers {
		saw[n] = map[int64]string{}
		watching.Go(func() {
			ctx := s.within()
			for !strings.Contains(w.seen(), "end=1") {
				if err := w.next(ctx); err != nil {
					errs <- fmt.Errorf("%q has seen %q: %w", w.reg.Member.ID, w.seen(), err)
					return
				}
				saw[n][w.generation] = w.seen()
			}
		})
	}
	for n := range 3 {
		changing.Go(func() {
			for round := range 8 {
				if err := s.comeAndGo(fmt.Sprintf("g%d-%d", n, round)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	changing.Wait()
	end := s.join("end")
	watching.Wait()
	close(errs)
	for err := range errs {
		require.NoError(s, err)
	}
	shared := 0
	for n := range saw {
		for generation, members := range saw[n] {
			if other, ok := saw[0][generation]; ok && n > 0 {
				shared++
				require.Equal(s, other, members, "%q and %q were told of different members for generation %d",
					watchers[0].reg.Member.ID, watchers[n].reg.Member.ID, generation)
			}
		}
	}
	require.GreaterOrEqual(s, shared, len(watchers)-1, "all must at least share the last generation: %v",
		saw)
	end.leave()
}

// comeAndGo joins, changes and for every other ID leaves again.
func (s *suite) comeAndGo(id string) error {
	i, err := s.tryJoin(id)
	if err != nil {
		return fmt.Errorf("join %q: %w", id, err)
	}
	if err := i.session.Update(s.within(), i.with(3)); err != nil {
		return fmt.Errorf("update %q: %w", id, err)
	}
	if id[len(id)-1]%2 == 0 {
		return nil
	}
	if err := i.tryLeave(); err != nil {
		return fmt.Errorf("leave %q: %w", id, err)
	}
	return nil
}

func updateIsSeenByAll(s *suite) {
	a, b := s.join("a"), s.join("b")
	a.update(4)
	a.sees("a=4 b=1")
	b.sees("a=4 b=1")
	said := b.with(2)
	said.Address, said.Metadata = "192.0.2.2:80", map[string]string{"drain": "yes"}
	require.NoError(s, b.session.Update(s.within(), said))
	for _, i := range []*instance{a, b} {
		i.sees("a=4 b=2")
		require.Equal(s, said, i.members["b"], "the whole member as it was updated")
	}
}

func leaveIsSeenAtOnce(s *suite) {
	a, b := s.join("a"), s.join("b")
	a.sees("a=1 b=1")
	b.leave() // long before its TTL, which is longer than any patience
	a.sees("a=1")
}

func passiveSeesAndIsNotSeen(s *suite) {
	a := s.join("a")
	a.sees("a=1")
	p := s.join("p", passive())
	p.sees("a=1")
	_, err := p.session.Renew(s.within())
	require.NoError(s, err, "Renew of a passive session")
	b := s.join("b", workers(2))
	p.sees("a=1 b=2")
	b.update(3)
	p.sees("a=1 b=3")
	b.leave()
	p.sees("a=1")
	p.leave()
	s.join("z")
	a.sees("a=1 z=1")
	require.NotContains(s, a.history, "p=1", "the passive instance was never a member")
}

func passiveLeavesItsNamesakeAlone(s *suite) {
	a := s.join("a")
	b := s.join("b")
	namesake := s.join("b", passive(), workers(9))
	namesake.sees("a=1 b=1")
	namesake.leave()
	a.sees("a=1 b=1")
	a.staysQuiet("a passive session with a member's ID has left")
	_, err := b.session.Renew(s.within())
	require.NoError(s, err, "Renew of the member whose ID a passive session had too")
}
