package libcluster

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// pinger holds this instance's record. It is one goroutine, and lives as long as its
// membership.
type pinger struct {
	*membership
	in    Membership    // the registry's; nil before the first attempt to join
	ended chan struct{} // closed when the goroutine ends

	// current is the incarnation whose session is open: the live one, or while
	// rejoining the lost one. Only the goroutine changes it; after its end it
	// belongs to leave.
	current atomic.Pointer[incarnation]
}

func newPinger(m *membership) *pinger { return &pinger{membership: m, ended: make(chan struct{})} }

// ping is the goroutine that holds this instance's record: it joins, renews,
// and when the record is lost joins again as a new incarnation, until the membership
// ends.
func (p *pinger) ping() {
	defer close(p.ended)
	var givingUp *time.Timer
	defer func() { stop(givingUp) }()
	var brief *retry // set while one incarnation after another is lost as soon as it has begun
	for first := true; ; first = false {
		if !p.awaitStopped() {
			return
		}
		inc := p.join()
		if inc == nil {
			return // the last session is leave's to end
		}
		if !first {
			p.stats.rejoined()
		}
		stop(givingUp)
		confirmed, why := inc.live()
		if isClosed(p.failed) && errors.As(why, new(*ModeError)) {
			p.log.Info("refused", zap.Error(why))
			return // Join returns it, and leaves
		}
		if p.stopping() {
			return
		}
		// The incarnation's session is kept until the next one has joined. Its record
		// stays, since rejoining replaces it and the others need not notice. If the
		// instance leaves first, leave removes it.
		p.note(why)
		p.stats.fenced(why)
		givingUp = p.giveUpAfter(p.cfg.GiveUpAfter, why)
		if errors.Is(why, ErrInstanceTaken) {
			if !p.overtaken(why) {
				return
			}
			continue
		}
		switch {
		case errors.Is(why, ErrDrained):
			p.withdraw(inc)
			continue
		case p.cfg.Mode == ModeDirect && errors.As(why, new(*ModeError)):
			p.report(zap.ErrorLevel, "the cluster runs in another mode by now; will look again",
				zap.Duration("after", lookAgain), zap.Error(why))
			p.withdraw(inc)
			if !sleep(p.ctx, lookAgain) {
				return
			}
			continue
		}
		p.report(zap.WarnLevel, "fenced; will rejoin", zap.Error(why))
		switch {
		case confirmed || errors.Is(why, ErrDeadlinePassed) || errors.Is(why, ErrStuck):
			brief = nil
		case brief == nil:
			brief = &retry{chance: p.chance} // the first time may be an accident, and rejoining at once is worth more
		case !brief.wait(p.ctx):
			return
		}
	}
}

// stop stops a timer, if there is one.
func stop(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

// withdraw removes the record of an instance that is to be no member now. It may be again, so
// the membership goes on. An instance that was away, and finds a cluster of another mode in its
// place, does so because members of that mode must not meet its record.
func (p *pinger) withdraw(inc *incarnation) {
	ctx, cancel := context.WithTimeout(p.ctx, leaveTimeout)
	defer cancel()
	inc.withdrawn = true
	if err := inc.session.Leave(ctx, Departure{}); err != nil {
		p.stats.failed(RegistryLeave, err)
		p.log.Debug("removing the record failed", zap.Error(err))
	}
}

// awaitStopped waits until the application holds no assignment, in a mode in which no
// incarnation begins before the one before has ended. It reports false if the
// membership has ended.
func (p *pinger) awaitStopped() bool {
	for p.cfg.Mode.excludes() && p.acting.Load() {
		select {
		case <-p.rested:
		case <-p.ctx.Done():
			return false
		}
	}
	return true
}

// discard lets go of the session of an incarnation that has a successor.
func (p *pinger) discard(inc *incarnation) {
	if inc == nil {
		return
	}
	if err := inc.session.Close(); err != nil {
		p.log.Debug("closing a lost session failed", zap.Error(err))
	}
}

// join tries until it has joined. It returns nil when the membership ends, when it is refused
// for good before the application has been told of an assignment, or when another instance has
// taken the ID since and this one is not to ask for it again.
func (p *pinger) join() *incarnation {
	again, limit := p.newRetry(), joinTimeout
	if !isClosed(p.ready) {
		limit = longestJoin // perhaps many join at once; no instance waits for this one yet
	}
	for ; !p.stopping(); limit = min(2*limit, longestJoin) {
		inc, err := p.attempt(p.registration().Member, limit)
		if err == nil {
			p.discard(p.current.Swap(inc))
			return inc
		}
		if p.ctx.Err() != nil {
			return nil
		}
		p.note(err)
		p.stats.failed(RegistryJoin, err)
		switch {
		case isPermanent(err) && !isClosed(p.ready):
			p.fail(err)
			return nil
		case errors.Is(err, ErrInstanceTaken):
			if !p.overtaken(err) {
				return nil
			}
			again.reset()
			continue
		}
		if errors.Is(err, ErrDrained) {
			p.report(zap.InfoLevel, "drained; will join when it is undrained")
		} else {
			p.report(zap.WarnLevel, "cannot join yet, will keep trying", zap.Error(err))
		}
		if !again.wait(p.ctx) {
			return nil
		}
	}
	return nil
}

// attempt tries once to join.
func (p *pinger) attempt(m Member, limit time.Duration) (*incarnation, error) {
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	if p.in == nil {
		in, err := p.cfg.Registry.Enter(p.registration())
		if err != nil {
			return nil, Permanent(err) // something has changed since New
		}
		p.in = in
	}
	sent := p.clock()
	session, ttl, err := p.in.Join(ctx, m)
	if err != nil {
		return nil, err
	}
	if _, ok := session.(Planner); !ok && p.cfg.Mode != ModeDirect {
		p.keepForNext(m, session)
		return nil, Permanent(ErrCannotPlan)
	}
	if p.cfg.Mode.excludes() && !p.cfg.Passive && ttl <= 0 {
		p.keepForNext(m, session)
		return nil, Permanent(fmt.Errorf("%w: its records do not expire", ErrCannotPlan))
	}
	if w := p.cfg.trusted(ttl); w > 0 && p.clock().since(sent) > w/slowJoin {
		// The deadline counts from sending, so little or nothing is left of it. A renewal
		// earns a fresh deadline. If its answer comes at all, it comes within the window
		// that it proves.
		ctx, cancel := context.WithTimeout(p.ctx, w)
		defer cancel()
		sent = p.clock()
		if ttl, err = session.Renew(ctx); err != nil {
			p.keepForNext(m, session)
			return nil, fmt.Errorf("joined slowly and then not renewed: %w", err)
		}
	}
	return newIncarnation(p.membership, p.in, session, sent, ttl, m), nil
}

// keepForNext makes a failed attempt's session the current one. Its record stays, so that the
// next attempt can replace it unnoticed; if the instance leaves first, leave removes it.
func (p *pinger) keepForNext(m Member, session Session) {
	inc := newIncarnation(p.membership, p.in, session, p.clock(), 0, m)
	inc.end(ErrDeadlinePassed)
	p.discard(p.current.Swap(inc))
}

// slowJoin: a join that took more than a quarter of the window was slow.
const slowJoin = 4
