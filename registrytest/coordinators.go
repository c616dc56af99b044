package registrytest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/elapsed"
)

func oneOfManyClaimsWins(s *suite) {
	const claimants = 12
	var all []*planner
	for n := range claimants {
		all = append(all, s.plan(fmt.Sprint("c", n)))
	}
	claimed := make([]bool, claimants)
	var claiming sync.WaitGroup
	errs := make(chan error, claimants)
	for n, p := range all {
		claiming.Go(func() {
			var err error
			if claimed[n], err = p.Claim(s.within(), fmt.Appendf(nil, "%d", n)); err != nil {
				errs <- err
			}
		})
	}
	claiming.Wait()
	close(errs)
	for err := range errs {
		require.NoError(s, err, "a Claim that is not granted is no error")
	}
	winner := -1
	for n := range all {
		if claimed[n] {
			require.Negative(s, winner, "two coordinate")
			winner = n
		}
	}
	require.GreaterOrEqual(s, winner, 0, "somebody must coordinate")
	for _, p := range all {
		p.hears("", fmt.Sprint(winner))
	}
	require.True(s, all[winner].claims("more"), "the coordinator may say something else")
	for n, p := range all {
		require.Equal(s, n == winner, p.claims("more"))
		p.hears("", "more")
	}
}

// coordinatorIsVacated has coordinators end in each way, after which somebody else
// can be one.
func coordinatorIsVacated(s *suite) {
	w := s.plan("w")
	ways := []struct {
		name string
		end  func(*planner) error
	}{
		{"Leave", func(p *planner) error { return p.tryLeave() }},
		{"Leave as one that has stopped", func(p *planner) error { return p.Leave(s.within(), libcluster.Departure{Stopped: true}) }},
		{"Leave as one that has stopped, for a restart", func(p *planner) error {
			return p.Leave(s.within(), libcluster.Departure{Reserve: longTTL, Last: p.reg.Member, Stopped: true})
		}},
		{"Leave for a restart", func(p *planner) error {
			return p.Leave(s.within(), libcluster.Departure{Reserve: longTTL, Last: p.reg.Member})
		}},
	}
	for _, way := range ways {
		a := s.plan("a")
		require.True(s, a.claims("a"), way.name)
		w.hears("", "a")
		require.False(s, w.claims("w"))
		a.left.Store(true)
		require.NoError(s, way.end(a), way.name)
		w.hears("", "")
		require.True(s, w.claims("w"), way.name)
		w.hears("", "w")
		w.leave()
		w = s.plan("w")
	}
}

// outliving is for one that others expire before.
func (s *suite) outliving() option { return ttl(4*s.h.TTL + s.h.Patience) }

// A coordinator that does not renew is over when its record has expired; and when
// its ID was taken from it, no later.
func coordinatorThatIsLostIsVacated(s *suite) {
	w := s.plan("w", passive())
	for _, how := range []string{"it expires", "its ID is taken"} {
		a, b := s.coordinatesBriefly(w)
		if how == "its ID is taken" {
			s.plan("a")
		}
		ctx, cancel := context.WithTimeout(context.Background(), a.granted+s.h.Patience)
		defer cancel()
		for w.now.Coordinator != nil {
			require.NoError(s, w.hear(ctx), "nobody coordinates once the TTL has passed: %s", how)
		}
		claimed, _ := a.Claim(s.within(), []byte("a")) // an error says why
		require.False(s, claimed, "a session whose record is lost coordinates nothing: %s", how)
		require.True(s, b.claims("b"), how)
		w.hears("", "b")
		b.leave()
		w.hears("", "")
	}
}

// coordinatesBriefly returns a coordinator with a short TTL, which w has been told of, and an
// instance that cannot become it yet.
func (s *suite) coordinatesBriefly(w *planner) (a, b *planner) {
	patience := s.within()
	for round := 0; ; round++ {
		began, says := time.Now(), fmt.Sprint("a", round) // not what w may have heard of the round before
		a, b = s.plan("a", ttl(s.h.TTL)), s.plan("b", s.outliving())
		claimed, err := a.Claim(s.within(), []byte(says))
		inVain, errInVain := b.Claim(s.within(), []byte("b"))
		inTime, cancel := context.WithDeadline(patience, began.Add(a.granted))
		errUntold := w.awaits(inTime, "", says)
		cancel()
		if elapsed.Since(began) < a.granted || patience.Err() != nil {
			require.NoError(s, err)
			require.NoError(s, errInVain)
			require.True(s, claimed)
			require.False(s, inVain)
			require.NoError(s, errUntold)
			return a, b
		}
		a.close() // on a busy machine its record may have expired already
		b.leave()
	}
}

// One whose record was deleted does not know of it, and rejoins when it does.
func rejoiningVacatesTheCoordinator(s *suite) {
	w, a := s.plan("w"), s.plan("a")
	require.True(s, a.claims("a"))
	w.hears("", "a")
	require.NoError(s, s.h.Delete(s.within(), s.registry, s.cluster(), "a"))
	again := s.plan("a", after(a.instance))
	a.close()
	w.hears("", "")
	require.True(s, again.claims("again"))
	w.hears("", "again")
}
