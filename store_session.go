package libcluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/kv"
)

// storeSession is one lease and one record in a space. The fields above the line never
// change once it is open.
type storeSession struct {
	space    kv.Space
	prefix   string // of its keys, for people
	id       string // and the record's key
	owner    kv.Owner
	ttl      time.Duration // what is asked for
	mode     Mode
	as       scheme // what its record says
	passive  bool
	members  bool // Next reports members
	log      *zap.Logger
	attempts *attempts

	storeMark // how far the store has come
	storeNews // what Next reports
	storeWord // what it has said of plans
	surveyor  // in a mode with a plan, the coordinator's

	proven atomic.Int64 // the version of the record that was last found to be our own
	ended  atomic.Bool
}

func newStoreSession(space kv.Space, a *attempts, m Member) *storeSession {
	s := &storeSession{
		space:    space,
		prefix:   "/" + a.reg.Cluster() + "/",
		id:       m.ID,
		ttl:      a.reg.TTL,
		mode:     a.reg.Mode,
		as:       m.plans.scheme,
		passive:  a.reg.Passive,
		members:  a.reg.Mode == ModeDirect || a.reg.Members,
		log:      a.reg.Logger,
		attempts: a,
	}
	s.storeNews.feed = feed{space: space, prefix: s.watched()}
	s.surveyor.feed = feed{space: space}
	return s
}

// ours is the condition for all that the session writes: its record is its own.
func (s *storeSession) ours() kv.Cond { return kv.OwnedBy(s.id, s.owner) }

// holder tells from the session's record whether it is still its own.
func (s *storeSession) holder(r kv.Record) error {
	switch {
	case r.Version == 0:
		return ErrRecordGone
	case r.Owner == s.owner:
		return nil
	case s.attempts.isOurs(r.Owner):
		return fmt.Errorf("%w: an earlier attempt to join has arrived late and replaced it", ErrRecordGone)
	case r.Owner == 0:
		return fmt.Errorf("%w: %q was overwritten without a lease", ErrRecordGone, s.prefix+s.id)
	case s.attempts.isOlder(r):
		return fmt.Errorf("%w: %q is older than what this instance has written", ErrRegistryReset, s.prefix+s.id)
	}
	return fmt.Errorf("%w: %q is under another lease", ErrInstanceTaken, s.prefix+s.id)
}

// Renew renews the lease and reads the session's record, both at once, since a line may be
// slow: together they prove that the record was there after Renew was called, in whatever
// order the store comes to them.
func (s *storeSession) Renew(ctx context.Context) (time.Duration, error) {
	if s.passive {
		return s.ttl, s.confirm(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// One half proves nothing by itself, and so the other need not be waited for: but for a
	// moment if the first is sure that the record has gone, since the other may tell more.
	failed := func(err error) {
		switch {
		case isFinal(err):
			time.AfterFunc(releaseGrace, cancel)
		case err != nil:
			cancel()
		}
	}
	var confirming sync.WaitGroup
	var there error
	confirming.Go(func() {
		there = s.confirm(ctx)
		failed(there)
	})
	ttl, err := s.space.Renew(ctx, s.owner)
	err = leaseError(err)
	failed(err)
	confirming.Wait()
	switch {
	case isFinal(there), err == nil:
		err = there // which tells more
	case !isFinal(err) && there != nil && !errors.Is(there, context.Canceled):
		err = there
	}
	if err != nil {
		return 0, err
	}
	return ttl, nil
}

// confirm finds the session's own record.
func (s *storeSession) confirm(ctx context.Context) error {
	before := s.latest()
	found, now, err := s.space.Get(ctx, s.id)
	if err != nil {
		return err
	}
	if err := s.sameStore(before, now); err != nil || s.passive {
		return err
	}
	if err := s.holder(found); err != nil {
		return err
	}
	return s.isOurRecord(found)
}

// isOurRecord finds a record that somebody has overwritten under our lease: to the
// coordinator it is no member, and so this instance must be none.
func (s *storeSession) isOurRecord(found kv.Record) error {
	if s.mode == ModeDirect || s.proven.Load() == found.Version {
		return nil // in mode direct Next finds it
	}
	m, err := ParseMember(s.id, found.Value)
	if err != nil || m.plans.scheme != s.as {
		return fmt.Errorf("%w: %q holds what is not our record", ErrRecordGone, s.prefix+s.id)
	}
	s.proven.Store(found.Version)
	return nil
}

// Update writes the record, only while it is still under our lease: under any other
// condition a record could come back that is no longer ours.
func (s *storeSession) Update(ctx context.Context, m Member) error {
	if s.passive {
		return ErrPassive
	}
	return s.writeUnder(ctx, s.owner, kv.Record{Key: s.id, Value: m.Record(), Owner: s.owner})
}

// writeUnder writes the session's record, and others, under a lease, if the record is as
// this session has written it last: so an earlier request that arrives late has no effect. If
// the record is under the other lease already, the answer to the first of several requests was lost.
func (s *storeSession) writeUnder(ctx context.Context, owner kv.Owner, records ...kv.Record) error {
	return s.insist(ctx, func(ctx context.Context) error {
		for {
			was := s.attempts.lastWritten()
			tx := kv.Tx{If: []kv.Cond{s.ours(), kv.AtVersion(s.id, was)}, Put: records}
			done, err := s.space.Commit(ctx, tx)
			if err != nil {
				return leaseError(err)
			}
			if done.Done || owner != s.owner && done.Records[0].Owner == owner {
				s.attempts.written(done.Mark.Revision)
				return nil
			}
			if err := s.holder(done.Records[0]); err != nil {
				return err
			}
			s.attempts.written(done.Records[0].Version) // an earlier request has arrived only now
		}
	})
}

// insist repeats a request until it has succeeded or was refused, or ctx ends. The request
// must be one that may be carried out twice.
func (s *storeSession) insist(ctx context.Context, request func(context.Context) error) error {
	var again retry
	for {
		sent := time.Now()
		err := request(ctx)
		if err == nil || isRefused(err) || !sleep(ctx, again.next()-time.Since(sent)) {
			return err
		}
	}
}

// Close ends all calls and leaves the lease to expire.
func (s *storeSession) Close() error { return s.space.Close() }

// get reads a record in two fifths of the time that there is: an answer that does not come is
// asked for again.
func (s *storeSession) get(ctx context.Context, key string) (kv.Record, kv.Mark, error) {
	limit := errandTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline) * 2 / 5
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.space.Get(ctx, key)
}

// watched is the prefix of what Next reports.
func (s *storeSession) watched() string {
	if s.members {
		return ""
	}
	return publicKeys
}
