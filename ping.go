package libcluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// ping is the goroutine that holds this instance's record: it joins, renews,
// and when the record is lost joins again as a new incarnation, until the stay
// ends.
func (s *stay) ping() {
	defer close(s.pinged)
	var inc *incarnation
	var brief *retry // set while one incarnation after another is lost as soon as it has begun
	for {
		if !s.awaitStopped() {
			return
		}
		next := s.join(inc)
		if next == nil {
			return // the last session is leave's to end
		}
		inc = next

		balanced := make(chan struct{})
		go func() {
			defer close(balanced)
			s.balance(inc)
		}()
		s.heartbeat(inc)
		<-balanced
		inc.coordinator.Wait()
		inc.stopDraining()
		if s.stopping() {
			return
		}
		// Its session is kept until the next one has joined: its record is not
		// removed, since rejoining replaces it and nobody else need notice, but
		// should the instance leave first, leave removes it.
		why := inc.fenced()
		s.note(why)
		if errors.Is(why, ErrInstanceTaken) {
			s.lost(why)
			return
		}
		s.log.Warn("fenced; will rejoin", zap.Error(why))
		switch {
		case inc.confirmed || errors.Is(why, ErrHorizonPassed) || errors.Is(why, ErrStuck):
			brief = nil
		case brief == nil:
			brief = &retry{chance: s.c.chance} // once is an accident, and being back at once is worth more
		case !brief.wait(s.ctx):
			return
		}
	}
}

// discard lets go of the session of an incarnation that has a successor.
func (s *stay) discard(inc *incarnation) {
	if inc == nil {
		return
	}
	if err := inc.session.Close(); err != nil {
		s.log.Debug("closing a lost session failed", zap.Error(err))
	}
}

// join tries until it has joined, as the incarnation after previous, which is nil
// for the first. It returns nil when the stay ends, when the first is refused for
// good, or when somebody else has taken the ID since it had it.
func (s *stay) join(previous *incarnation) *incarnation {
	again := s.c.newRetry()
	for !s.stopping() {
		r := s.registration()
		if last := s.current.Load(); last != nil {
			r.Previous = last.session // previous's, or that of an attempt since
		}
		inc, err := s.attempt(r)
		if err == nil {
			s.discard(s.current.Swap(inc))
			return inc
		}
		if s.ctx.Err() != nil {
			return nil
		}
		s.note(err)
		switch {
		case previous == nil && isPermanent(err):
			s.fail(err)
			return nil
		case errors.Is(err, ErrInstanceTaken):
			s.lost(err)
			return nil
		}
		if again.worthLogging() {
			s.log.Warn("cannot join yet, will keep trying", zap.Error(err))
		}
		if !again.wait(s.ctx) {
			return nil
		}
	}
	return nil
}

// attempt tries once to join.
func (s *stay) attempt(r Registration) (*incarnation, error) {
	ctx, cancel := context.WithTimeout(s.ctx, joinTimeout)
	defer cancel()
	sent := s.c.clock()
	session, ttl, err := s.c.cfg.Registry.Join(ctx, r)
	if err != nil {
		return nil, err
	}
	if _, ok := session.(Planner); !ok && r.Mode != Direct {
		s.giveUp(r, session)
		return nil, Permanent(ErrCannotPlan)
	}
	if r.Mode == Exclusive && !r.Passive && ttl <= 0 {
		s.giveUp(r, session)
		return nil, Permanent(fmt.Errorf("%w: its records do not expire", ErrCannotPlan))
	}
	if w := s.c.cfg.trusted(ttl); w > 0 && s.c.clock().since(sent) > w/slowJoin {
		// Little or nothing is left of the horizon that counts from sending.
		// Rather than to begin like that, or not at all, earn a fresh one.
		sent = s.c.clock()
		if ttl, err = session.Renew(ctx); err != nil {
			s.giveUp(r, session)
			return nil, fmt.Errorf("joined slowly and then not renewed: %w", err)
		}
	}
	return newIncarnation(s, session, sent, ttl, r.Member), nil
}

// giveUp keeps a session that has not become an incarnation in place of the one
// before: its record stays, since the next attempt replaces it and nobody need notice,
// but should the instance leave first, leave removes it.
func (s *stay) giveUp(r Registration, session Session) {
	inc := newIncarnation(s, session, s.c.clock(), 0, r.Member)
	inc.end(ErrHorizonPassed)
	s.discard(s.current.Swap(inc))
}

// slowJoin: a join that took more than a quarter of the window was slow.
const slowJoin = 4

// lost says that the ID is another instance's now. It also fails a Join that is
// still waiting for its first callback.
func (s *stay) lost(why error) {
	s.fail(why)
	if v := s.c.view.Load(); v.inc != nil && v.inc.stay == s {
		// Whatever fenced the incarnation that readers see, it is not for that
		// reason that there will be no other.
		v.inc.horizon.Store(&horizon{fenced: why})
	}
	s.wake()
	s.log.Error("fenced for good; leave and join again to take the ID back", zap.Error(why))
}

// heartbeat renews the record until the incarnation is over, and says meanwhile
// when the application has stopped for a plan.
func (s *stay) heartbeat(inc *incarnation) {
	s.catchUp(inc)
	again, heed := s.c.newRetry(), s.c.newRetry()
	beat, heedAgain := time.NewTimer(inc.untilBeat(false)), time.NewTimer(0)
	defer beat.Stop()
	defer heedAgain.Stop()
	<-heedAgain.C
	if inc.ttl == 0 {
		beat.Stop() // the record lives for ever
	}
	for {
		select {
		case <-inc.ctx.Done():
			return
		case <-inc.heed:
		case <-heedAgain.C:
		case <-beat.C:
			if !s.beat(inc, &again) {
				return
			}
			beat.Reset(inc.untilBeat(again.failures > 0))
			continue
		}
		if s.acknowledge(inc, &heed) {
			heed.reset()
		} else {
			heedAgain.Reset(heed.next())
		}
	}
}

// beat sends one heartbeat. It reports false if the incarnation is over.
func (s *stay) beat(inc *incarnation, again *retry) bool {
	err := s.renew(inc)
	switch {
	case inc.ctx.Err() != nil:
		return false
	case err == nil:
		again.reset()
		inc.confirmed = true
		s.catchUp(inc)
		s.watchRecords(inc)
	case isFinal(err):
		inc.end(err)
		return false
	default:
		s.note(err)
		if again.worthLogging() {
			s.log.Warn("cannot renew the record, will keep trying",
				zap.Error(err), zap.Time("horizon", s.c.State().Horizon))
		}
		again.failures++
	}
	if why := inc.fenced(); why != nil {
		inc.end(why)
		return false
	}
	return true
}

// catchUp publishes what SetWorkers could not, or set while joining. It takes no
// longer than a heartbeat may, since the next one is not to be late for it. Its
// error is logged there, and if it was a passing one the next beat tries again.
func (s *stay) catchUp(inc *incarnation) {
	ctx := inc.ctx
	if inc.ttl > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, inc.patience())
		defer cancel()
	}
	_ = s.publish(ctx)
}

// renew sends one heartbeat and moves the horizon.
func (s *stay) renew(inc *incarnation) error {
	ctx, cancel := context.WithTimeout(inc.ctx, inc.patience())
	defer cancel()
	sent := s.c.clock()
	ttl, err := inc.session.Renew(ctx)
	if err != nil {
		return err
	}
	inc.extend(sent, ttl)
	return nil
}

// untilBeat returns how long to wait before the next heartbeat: an eighth to a
// sixth of the record's life, so that there are several within a window, and
// after a failure a fraction of that. Not past the horizon.
func (inc *incarnation) untilBeat(failed bool) time.Duration {
	d := inc.ttl / 8
	if failed {
		d /= 5
	}
	d += inc.stay.c.chance.Below(d/3 + 1)
	// A beat at the horizon would come too late; half the way is soon no way at all.
	return max(min(d, inc.beforeHorizon(2*d)/2), leastBeat)
}

const leastBeat = time.Millisecond

// patience returns how long a heartbeat may take: a sixth of the window, so that
// of three servers two may hang, and the third is still asked in time. Not past
// the horizon.
func (inc *incarnation) patience() time.Duration {
	return inc.beforeHorizon(window(inc.ttl) / 6)
}

func (inc *incarnation) beforeHorizon(d time.Duration) time.Duration {
	if left, ends := inc.remaining(); ends {
		return max(0, min(d, left))
	}
	return d
}

// publish brings the registry's record up to date with what SetWorkers wants.
func (s *stay) publish(ctx context.Context) error {
	select {
	case s.publishing <- struct{}{}:
		defer func() { <-s.publishing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	inc := s.current.Load()
	if inc == nil || inc.fenced() != nil {
		return nil // not joined: ping comes here when it has
	}
	m := s.registration().Member
	if s.c.cfg.Passive || inc.published.Workers == m.Workers && inc.told(m.Workers) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	before := inc.published
	inc.published = Member{} // unknown, until an answer says more
	err := inc.session.Update(ctx, m)
	switch {
	case err == nil:
		inc.published = m
	case isFinal(err):
		inc.end(err)
	case isPermanent(err):
		s.log.Error("the worker count is refused", zap.Int("workers", m.Workers), zap.Error(err))
		inc.published = before
		s.c.refused(m, before)
	case s.stopping():
		err = ErrLeft
	default:
		s.log.Warn("cannot publish the worker count yet",
			zap.Int("workers", m.Workers), zap.Error(err))
		err = fmt.Errorf("will be tried again: %w", err)
	}
	return err
}
