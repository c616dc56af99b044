package libcluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
		next := s.join()
		if next == nil {
			return // the last session is leave's to end
		}
		inc = next

		balanced := make(chan struct{})
		go func() {
			defer close(balanced)
			s.balance(inc)
		}()
		errands := s.errands(inc)
		s.heartbeat(inc)
		errands.Wait()
		<-balanced
		inc.coordinator.Wait()
		why := inc.fenced()
		if isClosed(s.failed) && errors.As(why, new(*ModeError)) {
			s.log.Info("refused", zap.Error(why))
			return // Join returns it, and leaves
		}
		if s.stopping() {
			return
		}
		// The incarnation's session is kept until the next one has joined. Its record
		// stays, since rejoining replaces it and the others need not notice. If the
		// instance leaves first, leave removes it.
		s.note(why)
		if errors.Is(why, ErrInstanceTaken) {
			if !s.overtaken(why) {
				return
			}
			continue
		}
		if s.c.cfg.Mode == ModeDirect && errors.As(why, new(*ModeError)) {
			if !s.withdraw(inc, why) {
				return
			}
			continue
		}
		s.report(zap.WarnLevel, "fenced; will rejoin", zap.Error(why))
		switch {
		case inc.confirmed || errors.Is(why, ErrDeadlinePassed) || errors.Is(why, ErrStuck):
			brief = nil
		case brief == nil:
			brief = &retry{chance: s.c.chance} // the first time may be an accident, and rejoining at once is worth more
		case !brief.wait(s.ctx):
			return
		}
	}
}

// withdraw removes the record of an instance that was away, and finds a cluster of another
// mode in its place: members of that mode must not meet its record. They may go again, so
// the instance looks again after a while. It returns false if the stay has ended.
func (s *stay) withdraw(inc *incarnation, why error) bool {
	s.report(zap.ErrorLevel, "the cluster runs in another mode by now; will look again",
		zap.Duration("after", lookAgain), zap.Error(why))
	ctx, cancel := context.WithTimeout(s.ctx, leaveTimeout)
	defer cancel()
	inc.withdrawn = true
	if err := inc.session.Leave(ctx, Departure{}); err != nil {
		s.log.Debug("removing the record failed", zap.Error(err))
	}
	return sleep(s.ctx, lookAgain)
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

// join tries until it has joined. It returns nil when the stay ends, when it is refused
// for good before the application has been told of a place, or when another instance has
// taken the ID since and this one is not to ask for it again.
func (s *stay) join() *incarnation {
	again, limit := s.c.newRetry(), joinTimeout
	if !isClosed(s.ready) {
		limit = longestJoin // perhaps many join at once; no instance waits for this one yet
	}
	for ; !s.stopping(); limit = min(2*limit, longestJoin) {
		inc, err := s.attempt(s.registration().Member, limit)
		if err == nil {
			s.discard(s.current.Swap(inc))
			return inc
		}
		if s.ctx.Err() != nil {
			return nil
		}
		s.note(err)
		switch {
		case isPermanent(err) && !isClosed(s.ready):
			s.fail(err)
			return nil
		case errors.Is(err, ErrInstanceTaken):
			if !s.overtaken(err) {
				return nil
			}
			again.reset()
			continue
		}
		s.report(zap.WarnLevel, "cannot join yet, will keep trying", zap.Error(err))
		if !again.wait(s.ctx) {
			return nil
		}
	}
	return nil
}

// attempt tries once to join.
func (s *stay) attempt(m Member, limit time.Duration) (*incarnation, error) {
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	if s.in == nil {
		in, err := s.c.cfg.Registry.Enter(s.registration())
		if err != nil {
			return nil, Permanent(err) // something has changed since New
		}
		s.in = in
	}
	sent := s.c.clock()
	session, ttl, err := s.in.Join(ctx, m)
	if err != nil {
		return nil, err
	}
	if _, ok := session.(Planner); !ok && s.c.cfg.Mode != ModeDirect {
		s.giveUp(m, session)
		return nil, Permanent(ErrCannotPlan)
	}
	if s.c.cfg.Mode == ModeExclusive && !s.c.cfg.Passive && ttl <= 0 {
		s.giveUp(m, session)
		return nil, Permanent(fmt.Errorf("%w: its records do not expire", ErrCannotPlan))
	}
	if w := s.c.cfg.trusted(ttl); w > 0 && s.c.clock().since(sent) > w/slowJoin {
		// The deadline counts from sending, so little or nothing is left of it. A renewal
		// earns a fresh deadline. If its answer comes at all, it comes within the window
		// that it proves.
		ctx, cancel := context.WithTimeout(s.ctx, w)
		defer cancel()
		sent = s.c.clock()
		if ttl, err = session.Renew(ctx); err != nil {
			s.giveUp(m, session)
			return nil, fmt.Errorf("joined slowly and then not renewed: %w", err)
		}
	}
	return newIncarnation(s, session, sent, ttl, m), nil
}

// giveUp makes a failed attempt's session the current one. Its record stays, so that the
// next attempt can replace it unnoticed; if the instance leaves first, leave removes it.
func (s *stay) giveUp(m Member, session Session) {
	inc := newIncarnation(s, session, s.c.clock(), 0, m)
	inc.end(ErrDeadlinePassed)
	s.discard(s.current.Swap(inc))
}

// slowJoin: a join that took more than a quarter of the window was slow.
const slowJoin = 4

// maxUnanswered bounds how many heartbeats may be without an answer at the same time.
// There are six within a window.
const maxUnanswered = 8

// answer is what a heartbeat has brought.
type answer struct {
	sent moment
	ttl  time.Duration
	err  error
}

// heartbeat renews the record until the incarnation is over. An answer that is late
// proves no less than a prompt one: that the record was there after its request was
// sent. So it is waited for until it can't prove anything any more, a window later, and
// meanwhile the next heartbeat is sent beside it.
func (s *stay) heartbeat(inc *incarnation) {
	var sending sync.WaitGroup
	defer sending.Wait()
	if inc.ttl() == 0 {
		<-inc.ctx.Done() // the record lives for ever
		return
	}
	answers := make(chan answer, maxUnanswered)
	unanswered, late := 0, false // late: the latest has no answer yet
	sent := inc.sent()
	beat := time.NewTimer(inc.untilBeat(s.c.clock().since(sent)))
	defer beat.Stop()
	for {
		select {
		case <-inc.ctx.Done():
			return
		case <-beat.C:
			if late {
				s.cannotRenew(fmt.Errorf("no answer to a heartbeat for %v",
					s.c.clock().since(sent).Round(time.Millisecond)))
			}
			if why := inc.fenced(); why != nil {
				inc.end(why)
				return
			}
			if unanswered < maxUnanswered {
				now := s.c.clock()
				sending.Go(func() { answers <- s.renew(inc, now) })
				sent, late = now, true
				unanswered++
			}
			beat.Reset(inc.untilNext())
		case a := <-answers:
			unanswered--
			late = late && a.sent != sent
			ok, over := s.answered(inc, a)
			switch {
			case over:
				return
			case !ok:
				beat.Reset(inc.untilAgain())
			case unanswered == 0:
				beat.Reset(inc.untilBeat(s.c.clock().since(sent)))
			}
		}
	}
}

// renew sends one heartbeat.
func (s *stay) renew(inc *incarnation, sent moment) answer {
	ctx, cancel := context.WithTimeout(inc.ctx, window(inc.ttl()))
	defer cancel()
	ttl, err := inc.session.Renew(ctx)
	return answer{sent, ttl, err}
}

// answered moves the deadline as an answer says. It reports whether the heartbeat has
// succeeded, and whether the incarnation is over.
func (s *stay) answered(inc *incarnation, a answer) (ok, over bool) {
	switch {
	case inc.ctx.Err() != nil:
		return false, true
	case a.err == nil:
		inc.extend(a.sent, a.ttl)
		inc.confirmed = true
		inc.answeredBeat.Store(true)
		inc.mayBeUnpublished()
		s.watchRecords(inc)
	case isFinal(a.err):
		inc.end(a.err)
		return false, true
	case inc.renewedSince(a.sent):
		return true, false // a later one has succeeded
	default:
		s.cannotRenew(a.err)
	}
	if why := inc.fenced(); why != nil {
		inc.end(why)
		return false, true
	}
	return a.err == nil, false
}

func (s *stay) cannotRenew(err error) {
	s.note(err)
	s.report(zap.WarnLevel, "cannot renew the record, will keep trying",
		zap.Error(err), zap.Time("deadline", s.c.State().Deadline))
}

// untilBeat returns how long to wait before the next heartbeat when the last was sent
// some time ago and all are answered: an eighth to a sixth of the record's life after it,
// so that there are several within a window. Not past the deadline.
func (inc *incarnation) untilBeat(ago time.Duration) time.Duration {
	return inc.halfWay(inc.spread(inc.ttl()/8) - ago)
}

// untilNext returns how long the heartbeat that was just sent has until another one is
// sent beside it: a tenth of the record's life, and some. Of three servers two may hang,
// and the third is still asked in time.
func (inc *incarnation) untilNext() time.Duration {
	return max(inc.beforeDeadline(inc.spread(inc.ttl()/10)), leastBeat)
}

// untilAgain returns how long to wait after a heartbeat that has failed.
func (inc *incarnation) untilAgain() time.Duration { return inc.halfWay(inc.spread(inc.ttl() / 40)) }

// spread adds up to a third, so that instances that began together do not ask together.
func (inc *incarnation) spread(d time.Duration) time.Duration {
	return d + inc.stay.c.chance.Below(d/3+1)
}

// halfWay shortens a wait that is to end well before the deadline. A beat at the deadline
// would come too late; half the way is soon no way at all.
func (inc *incarnation) halfWay(d time.Duration) time.Duration {
	return max(min(d, inc.beforeDeadline(2*d)/2), leastBeat)
}

const leastBeat = time.Millisecond

// patience returns how long an errand may take: a third of the window. Not past the
// deadline.
func (inc *incarnation) patience() time.Duration {
	if inc.ttl() == 0 {
		return errandTimeout
	}
	return inc.beforeDeadline(window(inc.ttl()) / 3)
}

func (inc *incarnation) beforeDeadline(d time.Duration) time.Duration {
	if left, ends := inc.remaining(); ends {
		return max(0, min(d, left))
	}
	return d
}

// errands tells the registry what is new with this instance: that the application has
// stopped for a plan, and another number of workers. Neither errand waits for the other,
// and no heartbeat waits for them.
func (s *stay) errands(inc *incarnation) (running *sync.WaitGroup) {
	running = new(sync.WaitGroup)
	running.Go(func() { s.errand(inc, inc.drain.unsaid, s.acknowledge) })
	running.Go(func() { s.errand(inc, inc.unpublished, s.catchUp) })
	inc.mayBeUnpublished()
	return running
}

// errand does something whenever it is asked to, and again until it has succeeded, with
// a backoff of its own: a heartbeat may be minutes away.
func (s *stay) errand(inc *incarnation, asked signal, do func(*incarnation) bool) {
	again := s.c.newRetry()
	due := time.NewTimer(0)
	defer due.Stop()
	due.Stop()
	for {
		select {
		case <-inc.ctx.Done():
			return
		case <-asked:
		case <-due.C:
		}
		if do(inc) {
			again.reset()
			due.Stop()
		} else {
			due.Reset(again.next())
		}
	}
}

// catchUp publishes a worker count that SetWorkers could not publish, or that was set while
// joining. It reports false if that has to be tried again. A call of SetWorkers with another
// count does not have to wait for long.
func (s *stay) catchUp(inc *incarnation) bool {
	ctx, cancel := context.WithTimeout(inc.ctx, inc.patience())
	defer cancel()
	err := s.publish(ctx, inc.answeredBeat.Swap(false))
	return err == nil || isFinal(err) || isPermanent(err) || inc.ctx.Err() != nil
}

// mayBeUnpublished has the worker count compared, and published if it is another one. It
// never blocks.
func (inc *incarnation) mayBeUnpublished() { inc.unpublished.set() }

// publish brings the registry's record up to date with what SetWorkers wants. If it is to
// compare, what the registry tells of the record counts, too, besides what it was sent
// last.
func (s *stay) publish(ctx context.Context, compare bool) error {
	select {
	case s.publishing <- struct{}{}:
		defer func() { <-s.publishing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	inc := s.current.Load()
	if inc == nil || inc.fenced() != nil {
		return nil // not joined: ping publishes once it has joined
	}
	m := s.registration().Member
	says := inc.published.Workers == m.Workers && inc.published.plans.seen >= inc.drain.slowFor.Load()
	if s.c.cfg.Passive || says && (!compare || inc.told(m.Workers)) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, errandTimeout)
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
		s.c.refused(m, before, err)
	case s.stopping():
		err = ErrLeft
	default:
		s.report(zap.WarnLevel, "cannot publish the worker count yet", zap.Int("workers", m.Workers), zap.Error(err))
		err = fmt.Errorf("will be tried again: %w", err)
	}
	return err
}
