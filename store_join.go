package libcluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/kv"
)

// joiner joins a store as often as a membership has to.
type joiner struct {
	*attempts
	last *storeSession // the latest that has joined; used by one attempt after another
}

func newJoiner(r Registration) joiner { return joiner{attempts: newAttempts(r)} }

// join opens a session in a space, which it does not close if it fails.
func (j *joiner) join(ctx context.Context, space kv.Space, m Member) (*storeSession, time.Duration, error) {
	s := newStoreSession(space, j.attempts, m)
	ttl, err := joining{s, m, j.last}.open(ctx)
	if err == nil {
		j.last = s
	}
	return s, ttl, err
}

// joining is an attempt to join, which ends with a session or without one.
type joining struct {
	*storeSession
	member   Member
	previous *storeSession // the membership's session before, nil if this is the first
}

// open begins the lease, opens the watch, and then writes the record and lists the
// members in one transaction: the list is that of the revision that the write made,
// neither older nor newer, and the watch goes on with the one after it.
//
// The watch is opened before: opened later, from a revision that by then is past, it would
// have to catch up, which on some stores costs a while. The lease need not have begun: a
// write that comes before it has no effect, and is sent again.
func (s joining) open(ctx context.Context) (time.Duration, error) {
	if err := s.mayList(); err != nil {
		return 0, err
	}
	if err := s.awaitUndrained(ctx); err != nil {
		return 0, err
	}
	beside, cancel := context.WithCancel(ctx)
	defer cancel()
	if !s.passive {
		s.owner = s.attempts.owner()
	}
	var (
		opening, entering sync.WaitGroup
		sent              bool                 // the record may have been written
		err               error                // why it was not
		begun             = make(chan bool, 1) // whether the lease has begun
	)
	opening.Go(func() { _ = s.storeNews.feed.open(ctx) }) // if it fails Next opens another
	entering.Go(func() {
		var before kv.Record
		if !s.passive {
			before, err = s.lookBefore(beside)
		}
		opening.Wait()
		if err != nil {
			return
		}
		sent = true
		err = s.enter(beside, before)
		if errors.Is(err, kv.ErrEnded) && <-begun {
			err = s.enter(beside, before)
		}
	})
	ttl, failed := s.begin(ctx)
	if failed != nil {
		cancel()
	}
	begun <- failed == nil
	release := s.hold(ctx, ttl, failed == nil)
	entering.Wait()
	release()
	if failed != nil {
		err = failed // which is why the others were given up, or tells more
	}
	if err != nil {
		if s.passive || failed != nil && !sent {
			return 0, err
		}
		s.endLease(ctx) // whether the record was written is unknown, and without the lease it goes
		return 0, err
	}
	s.endPrevious(ctx)
	return ttl, nil
}

// endLease ends the lease of an attempt that has failed. Its context may have ended.
func (s joining) endLease(ctx context.Context) {
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			time.AfterFunc(releaseGrace/2, cancel) // Leave waits for no longer
		}
	})()
	_ = s.space.End(cleanup, s.owner)
}

// begin begins the lease. A passive session needs none; what it knows is trusted for as
// long as it asked for.
func (s joining) begin(ctx context.Context) (time.Duration, error) {
	if s.passive {
		return s.ttl, nil
	}
	ttl, err := s.space.Begin(ctx, s.owner, s.ttl)
	if err == nil {
		s.attempts.hasBegun(s.owner)
	}
	return ttl, err
}

// hold keeps the lease, if there is one, so that a store that is slow because many join at once
// need not begin another one. It returns what ends that.
func (s joining) hold(ctx context.Context, ttl time.Duration, begun bool) (release func()) {
	if s.passive || !begun {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var holding sync.WaitGroup
	holding.Go(func() {
		for sleep(ctx, ttl/3) {
			_, _ = s.space.Renew(ctx, s.owner) // an error shows when the record is written
		}
	})
	return func() { cancel(); holding.Wait() }
}

// lookBefore returns the record that is there, and an error if it must not be taken over.
func (s joining) lookBefore(ctx context.Context) (kv.Record, error) {
	found, now, err := s.get(ctx, s.id)
	switch {
	case err != nil || found.Owner == 0:
		return found, err
	case s.attempts.isOurs(found.Owner):
		s.attempts.hasBegun(found.Owner) // the answer may have been lost
		return found, nil
	}
	if previous := s.previous; previous != nil {
		if previous.sameStore(previous.latest(), now) != nil || s.attempts.isOlder(found) {
			return found, s.fits(found) // from a backup, or written since: its instance may long be over
		}
		return found, s.holder(found)
	}
	survey, err := s.Look(ctx)
	if err != nil {
		return found, err
	}
	return found, mayTakeOver(s.member, survey)
}

// fits returns an error if the record of this ID is of another mode: by plans of that mode its
// instance may still act, and no plan of this one would wait for it.
func (s joining) fits(found kv.Record) error {
	m, err := ParseMember(s.id, found.Value)
	if err == nil && !m.reserved && m.plans.scheme != s.as {
		return s.as.refuses(m.plans.scheme)
	}
	return nil
}

// mayTakeOver returns the error with which the cluster would refuse this instance, or nil.
// The survey is of the moment just before its first Join takes over the record of a living
// instance.
func mayTakeOver(own Member, s Survey) error {
	total, its := int64(own.Workers), own.plans.scheme
	for _, m := range s.Members {
		switch {
		case m.Incarnation != "" && !m.reserved && m.plans.scheme != its:
			return Permanent(its.refuses(m.plans.scheme))
		case m.ID != own.ID && m.plans.scheme == its && (its.mode == ModeDirect || m.Incarnation != ""):
			total += int64(m.Workers)
		}
	}
	if total > MaxWorkers {
		return Permanent(errTotal(total))
	}
	return nil
}

// enter writes the record, if it is still what was found before, and lists.
func (s joining) enter(ctx context.Context, found kv.Record) error {
	if s.passive {
		return s.relist(ctx)
	}
	tx := kv.Tx{
		If:  []kv.Cond{kv.AtVersion(s.id, found.Version)},
		Put: []kv.Record{{Key: s.id, Value: s.member.Record(), Owner: s.owner}},
	}
	if s.mode == ModeDirect {
		tx.If = append(tx.If, kv.AtVersion(drainingKeys+s.id, 0))
	}
	if s.mode.excludes() {
		// What this membership has begun before never acts again, or never has.
		before := s.attempts.others(s.owner)
		if s.previous != nil && !slices.Contains(before, s.previous.owner) {
			before = append(before, s.previous.owner)
		}
		for _, owner := range before {
			tx.Put = append(tx.Put, noteOf(owner, StoppedForGood, "", s.owner))
		}
	}
	note := noteOf(s.owner, 0, "", s.owner)
	if s.mode == ModeCooperative {
		tx.Put = append(tx.Put, note) // which a fence may depend on
	}
	err := s.list(ctx, tx, func(records []kv.Record) error {
		if s.attempts.drained = s.mode == ModeDirect && records[1].Version != 0; s.attempts.drained {
			return ErrDrained
		}
		return errors.New("the record has changed while joining") // to be looked at again
	})
	if err != nil {
		return err
	}
	if s.mode == ModeCooperative {
		note.Version = s.attempts.lastWritten()
		s.setNote(note)
	}
	return s.unseat(ctx, found.Owner)
}

// unseat removes the claim of the incarnation that had the record before us, under a lease that
// may live on for long. It is over, and meanwhile nobody would coordinate.
func (s joining) unseat(ctx context.Context, before kv.Owner) error {
	if s.mode == ModeDirect || before == 0 || before == s.owner {
		return nil
	}
	return s.vacate(ctx, before)
}

// endPrevious ends what is left of the previous incarnation, once this one has its record.
func (s joining) endPrevious(ctx context.Context) {
	if s.mode == ModeDirect || s.passive || s.previous == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout) // this one has its record already
	defer cancel()
	if err := s.space.End(ctx, s.previous.owner); err != nil {
		s.log.Debug("could not end the previous lease", zap.Error(err))
	}
}
