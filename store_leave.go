package libcluster

import (
	"context"
	"errors"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// Leave leaves as is asked, and closes the session whether or not that has worked.
func (s *storeSession) Leave(ctx context.Context, d Departure) error {
	var err error
	switch {
	case d.Reserve > 0:
		err = s.reserve(ctx, d)
	case d.Stopped:
		err = s.leaveStopped(ctx)
	default:
		err = s.end(ctx, s.owner) // and the record goes with its lease, unless it is another's
	}
	return errors.Join(err, s.Close())
}

// end ends a lease. To end the session's own again is nothing.
func (s *storeSession) end(ctx context.Context, owner kv.Owner) error {
	if s.passive || owner == s.owner && s.ended.Load() {
		return nil
	}
	err := s.insist(ctx, func(ctx context.Context) error { return s.space.End(ctx, owner) })
	if err == nil && owner == s.owner {
		s.ended.Store(true)
	}
	return err
}

// reserve puts the record under a lease that nobody renews. What stays is an incarnation of
// its own, and nobody acts as that.
func (s *storeSession) reserve(ctx context.Context, d Departure) error {
	if s.passive {
		return nil
	}
	under, err := s.lend(ctx, d.Reserve)
	if err != nil {
		return err
	}
	records := []kv.Record{{Key: s.id, Value: d.Last.Record(), Owner: under}}
	if d.Stopped || s.mode.excludes() {
		records = append(records, noteOf(under, StoppedForGood, "", under))
	}
	if d.Stopped {
		records = append(records, noteOf(s.owner, StoppedForGood, "", under))
	}
	if err := s.writeUnder(ctx, under, records...); err != nil {
		if isFinal(err) {
			err = errors.Join(err, s.end(ctx, under), s.end(ctx, s.owner)) // nothing is kept
		}
		return err
	}
	return s.end(ctx, s.owner)
}

// lend begins a lease that nobody will renew.
func (s *storeSession) lend(ctx context.Context, d time.Duration) (owner kv.Owner, err error) {
	err = s.insist(ctx, func(ctx context.Context) error {
		owner = s.attempts.draw() // the one before may have begun, and only its answer was lost
		_, err := s.space.Begin(ctx, owner, d)
		return err
	})
	return owner, err
}

// leaveStopped deletes the record and leaves the note that the application has stopped for
// good under our lease, which expires.
func (s *storeSession) leaveStopped(ctx context.Context) error {
	if s.passive {
		return nil
	}
	claimed := s.hasClaimed()
	note, left := noteOf(s.owner, StoppedForGood, "", s.owner), false
	tx := kv.Tx{If: []kv.Cond{s.ours()}, Put: []kv.Record{note}, Delete: []string{s.id}}
	err := s.insist(ctx, func(ctx context.Context) (err error) {
		var done kv.Result
		if claimed { // our lease lives on, and meanwhile nobody would coordinate
			done, err = s.space.Commit(ctx, kv.Tx{
				If: append(tx.If, kv.OwnedBy(coordinatorKey, s.owner)), Put: tx.Put, Delete: append(tx.Delete, coordinatorKey),
			})
		}
		if err == nil && !done.Done {
			done, err = s.space.Commit(ctx, tx)
		}
		if left = done.Done; err != nil || left {
			return leaseError(err)
		}
		found, _, err := s.get(ctx, note.Key) // the answer to the first of several may have been lost
		left = found.Version != 0
		return err
	})
	if err != nil || left {
		return err
	}
	return s.end(ctx, s.owner)
}
