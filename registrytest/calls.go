package registrytest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

func firstChangeAssignsARange(s *suite) {
	a := s.join("a")
	change, err := a.change(s.within())
	require.NoError(s, err)
	require.NotNil(s, change.Assigned, "a registry that knows no members assigns a range: %+v", change)
	p := s.join("p", passive())
	change, err = p.change(s.within())
	require.NoError(s, err)
	require.NotNil(s, change.Assigned, "a registry that knows no members assigns a range: %+v", change)
	require.Equal(s, -1, change.Assigned.Index, "the range of a passive instance")
}

// returnsSoon fails unless call returns within a short time, or in real time at all.
func (s *suite) returnsSoon(what string, call func() error) error {
	s.Helper()
	return s.returnsWithin(s.h.soon, what, call)
}

func (s *suite) returnsWithin(bound time.Duration, what string, call func() error) error {
	s.Helper()
	returned := make(chan error, 1)
	go func() { returned <- call() }()
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case err := <-returned:
		return err
	case <-timer.C:
		require.FailNow(s, "a call does not heed its context", "%s must return within %v of the end of its context", what, bound)
		return nil
	}
}

func callsReturnSoonAfterTheirContextEnds(s *suite) {
	a := s.join("a")
	require.NoError(s, s.firstChange(a))

	// A Next that waits already when its context ends.
	waiting, cancel := context.WithTimeout(context.Background(), s.h.Quiet)
	defer cancel()
	err := s.returnsWithin(s.h.Quiet+s.h.soon, "Next", func() error { return a.nothing(waiting) })
	require.Error(s, err, "a Next whose context has ended")
	require.True(s, ended(err), "a Next whose context has ended says so; got: %v", err)

	over, cancelled := context.WithCancel(context.Background())
	cancelled()
	require.Error(s, s.returnsSoon("Next", func() error { return a.nothing(over) }), "Next with a context that has ended")
	s.returnsSoon("Renew", func() error { _, err := a.session.Renew(over); return err })
	s.returnsSoon("Update", func() error { return a.session.Update(over, a.reg.Member) })
	s.returnsSoon("Join", func() error {
		b := s.asks("b")
		session, _, err := b.join(over, s.registry)
		if err == nil { // it needed no context, then
			return session.Leave(s.within(), libcluster.Departure{})
		}
		return err
	})
	s.returnsSoon("Leave", func() error { return a.session.Leave(over, libcluster.Departure{}) })
	require.Error(s, s.returnsSoon("Next", func() error { return a.nothing(over) }), "Next after Leave")
}

// firstChange takes the first change, whatever it is.
func (s *suite) firstChange(i *instance) error {
	_, err := i.change(s.within())
	return err
}

// nothing takes changes until the session or ctx has ended.
func (i *instance) nothing(ctx context.Context) error {
	for {
		if _, err := i.change(ctx); err != nil {
			return err
		}
	}
}

// leavingAndClosingAgainIsHarmless calls Leave and Close in every order, at once
// too. What a second call returns is not promised: it may have nothing to say, or
// that the session is closed.
func leavingAndClosingAgainIsHarmless(s *suite) {
	leave := func(i *instance) error { return i.tryLeave() }
	closing := func(i *instance) error { return i.session.Close() }
	again := func(i *instance) {
		_ = s.returnsSoon("Leave again", func() error { return i.session.Leave(s.briefly(), libcluster.Departure{}) })
		_ = s.returnsSoon("Close again", i.session.Close)
		_ = s.returnsSoon("Leave again", func() error { return i.session.Leave(s.briefly(), libcluster.Departure{}) })
	}
	for n, end := range []func(*instance) error{leave, closing} {
		i := s.join(fmt.Sprint("a", n))
		require.NoError(s, end(i), "the first time")
		again(i)
	}
	i := s.join("b")
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() { _ = leave(i) })
		calls.Go(func() { _ = closing(i) })
	}
	calls.Wait()
	again(i)
}

// cancelledNextLosesNothing has the end of a context race each change: it ends
// before, after, or at the same time.
func cancelledNextLosesNothing(s *suite) {
	a, b := s.join("a"), s.join("b")
	a.sees("a=1 b=1")
	a.history = nil
	var want []string
	for n := 2; n < 300; n++ {
		want = append(want, fmt.Sprintf("b=%d", n))
		ctx, cancel := context.WithCancel(s.within())
		var failed error
		update := func() { failed = b.session.Update(s.within(), b.with(n)) }
		var racing sync.WaitGroup
		switch n % 4 {
		case 0:
			racing.Go(func() { update(); cancel() })
		case 1:
			racing.Go(func() { cancel(); update() })
		case 2: // the change is there already, and the context has ended
			update()
			cancel()
		default:
			racing.Go(update)
			racing.Go(cancel)
		}
		if err := a.next(ctx); err != nil {
			require.Error(s, ctx.Err(), "Next failed before its context ended: %v", err)
		}
		racing.Wait()
		require.NoError(s, failed, "Update of the other")
	}
	a.sees("a=1 b=299")
	require.Equal(s, want, a.history, "every change, each once and in order, although Next was cancelled in between")
}

func closingEndsANextThatWaits(s *suite) {
	for _, how := range []struct {
		name string
		end  func(*instance) error
	}{
		{"Close", func(i *instance) error { i.left.Store(true); return i.session.Close() }},
		{"Leave", (*instance).tryLeave},
	} {
		a := s.join("a")
		a.sees("a=1")
		returned := make(chan error, 1)
		go func() { returned <- a.nothing(context.Background()) }()
		select { // until it waits for sure
		case err := <-returned:
			require.FailNow(s, "Next did not wait", "for a change while nothing happens: %v", err)
		case <-s.briefly().Done():
		}
		require.NoError(s, how.end(a), "%s while a Next waits", how.name)
		require.Error(s, s.returnsSoon("Next after "+how.name, func() error { return <-returned }))
	}
}

// sessionServesManyGoroutines is for the race detector above all.
func sessionServesManyGoroutines(s *suite) {
	const rounds, updaters = 20, 3
	a, watcher := s.join("a"), s.join("w")
	errs := make(chan error, 2+updaters)
	var calls sync.WaitGroup
	calls.Go(func() {
		for range rounds {
			if _, err := a.session.Renew(s.within()); err != nil {
				errs <- fmt.Errorf("renewing while others call too: %w", err)
				return
			}
		}
	})
	for n := range updaters {
		calls.Go(func() {
			for round := range rounds {
				if err := a.session.Update(s.within(), a.with(100*(n+1)+round)); err != nil {
					errs <- fmt.Errorf("updating while others call too: %w", err)
					return
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(s.within())
	watching := make(chan error, 1)
	go func() {
		for {
			if err := a.next(ctx); err != nil {
				watching <- err
				return
			}
		}
	}()
	calls.Wait()
	cancel()
	close(errs)
	for err := range errs {
		require.NoError(s, err)
	}
	err := <-watching
	require.True(s, ended(err), "Next while others call too: %v", err)

	last := s.join("p", passive())
	require.NoError(s, last.next(s.within()))
	watcher.sees(last.seen())
	a.sees(last.seen())
}
