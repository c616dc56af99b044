package libcluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/libcluster/libcluster/kv"
)

// Next waits for the next change of the members, or in a mode with a plan of that. If
// changes have been missed, all is listed anew.
func (s *storeSession) Next(ctx context.Context) (Change, error) {
	for {
		if s.storeNews.feed.missed {
			if err := s.mayList(); err != nil {
				return Change{}, err
			}
			limit, cancel := context.WithTimeout(ctx, s.ttl+errandTimeout) // or it is asked again
			err := s.relist(limit)
			cancel()
			if err != nil {
				return Change{}, err
			}
		}
		if s.listed != nil {
			change := *s.listed
			s.listed = nil
			return change, nil
		}
		changes, err := s.storeNews.feed.next(ctx)
		if err != nil {
			return Change{}, err
		}
		if err := s.heard(changes.Mark); err != nil {
			return Change{}, err
		}
		if len(changes.Records) > 0 {
			change, err := s.change(changes)
			if err != nil {
				s.storeNews.feed.close()
			}
			if err != nil || s.mode == ModeDirect || change.Planned != nil || len(change.Events) > 0 {
				return change, err
			}
		}
	}
}

// relist lists again. In direct mode a member also writes its own record, as it is
// there: the write makes the revision, and so the generation, on which then all
// agree. A list alone could not know it, because deletions leave no trace in one.
func (s *storeSession) relist(ctx context.Context) error {
	if s.passive || s.mode != ModeDirect {
		before, l := s.latest(), s.newListing()
		mark, err := s.space.List(ctx, s.watched(), l.each)
		if err != nil {
			return err
		}
		return s.take(l, before, mark)
	}
	before := s.latest()
	own, mark, err := s.get(ctx, s.id)
	if err == nil {
		err = s.sameStore(before, mark)
	}
	if err == nil {
		err = s.holder(own)
	}
	if err != nil {
		return err
	}
	tx := kv.Tx{If: []kv.Cond{kv.AtVersion(s.id, own.Version)}, Put: []kv.Record{own}}
	return s.list(ctx, tx, func(found []kv.Record) error {
		if err := s.holder(found[0]); err != nil {
			return err
		}
		return errors.New("the record has changed while the members were listed")
	})
}

// list writes the session's record and takes in what is listed with it.
func (s *storeSession) list(ctx context.Context, tx kv.Tx, failed func([]kv.Record) error) error {
	before, l := s.latest(), s.newListing()
	tx.Prefix, tx.Each = s.watched(), l.each
	done, err := s.space.Commit(ctx, tx)
	switch {
	case err != nil:
		return leaseError(err)
	case !done.Done:
		if err := s.sameStore(before, done.Mark); err != nil {
			return err
		}
		return failed(done.Records)
	}
	s.attempts.written(done.Mark.Revision)
	before.Revision++ // a write is later than all that was told before
	return s.take(l, before, done.Mark)
}

// listing is what is listed for Next.
type listing struct {
	s       *storeSession
	events  []Event
	foreign []foreign
	weights *weights
	now     Planning
	drained bool
}

func (s *storeSession) newListing() *listing { return &listing{s: s, weights: newWeights()} }

// each takes in one record.
func (l *listing) each(r kv.Record) error {
	if l.s.mode != ModeDirect && strings.HasPrefix(r.Key, publicKeys) {
		l.now.reflect(r, false)
	}
	l.drained = l.drained || l.s.isDrained(r.Key)
	if !l.s.members || isOfPlan(r.Key) {
		return nil
	}
	e, why := eventOf(r, false)
	l.foreign = found(l.foreign, l.s.prefix, r, why)
	l.weights.member(e, len(r.Key)+len(r.Value))
	if !e.Gone {
		l.events = append(l.events, e)
	}
	return l.s.attempts.check(l.s.prefix, l.weights)
}

// take has Next report what was listed, if it is of no earlier time than the mark.
func (s *storeSession) take(l *listing, before, mark kv.Mark) error {
	if err := s.sameStore(before, mark); err != nil {
		return err
	}
	if s.attempts.drained = l.drained; l.drained {
		return ErrDrained
	}
	s.listed, s.weights = &Change{}, l.weights
	if s.members {
		*s.listed = Change{Reset: true, Events: l.events}
	}
	if s.mode == ModeDirect {
		s.listed.Generation, s.listed.foreign = mark.Revision, l.foreign
	} else {
		now := l.now
		s.listed.Planned, s.now = &now, now
	}
	s.storeNews.feed.read(mark.Revision)
	return nil
}

// change translates what the watch has told.
func (s *storeSession) change(changes kv.Changes) (Change, error) {
	var change Change
	if s.mode == ModeDirect {
		change.Generation = changes.Mark.Revision
	}
	for _, c := range changes.Records {
		if s.isDrained(c.Key) && !c.Gone {
			s.attempts.drained = true
			return Change{}, ErrDrained
		}
		if s.mode != ModeDirect && strings.HasPrefix(c.Key, publicKeys) {
			s.now.reflect(c.Record, c.Gone)
			now := s.now
			change.Planned = &now
		}
		if !s.members || isOfPlan(c.Key) {
			continue
		}
		if c.Key == s.id && s.mode == ModeDirect && !s.passive {
			own := c.Record
			if c.Gone {
				own = kv.Record{}
			}
			if err := s.holder(own); err != nil {
				return Change{}, err
			}
		}
		e, why := eventOf(c.Record, c.Gone)
		s.weights.member(e, len(c.Key)+len(c.Value))
		change.foreign = found(change.foreign, s.prefix, c.Record, why)
		if e.Gone && c.Key == s.id && s.mode == ModeDirect && !s.passive {
			return Change{}, fmt.Errorf("%w: %q holds what is no member's record", ErrRecordGone, s.prefix+s.id)
		}
		change.Events = append(change.Events, e)
	}
	if err := s.attempts.check(s.prefix, s.weights); err != nil {
		s.storeNews.feed.missed = true // what has been dropped is read when there is room for it
		return Change{}, err
	}
	return change, nil
}

// mayList returns why not, if listing is to read all members.
func (s *storeSession) mayList() error {
	if !s.members {
		return nil
	}
	return s.attempts.tooLarge()
}
