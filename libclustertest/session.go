package libclustertest

import (
	"context"
	"errors"
	"time"

	"github.com/libcluster/libcluster"
)

// session is a session on the store. Each call that only asks is one request that may meet a
// fault; of one that changes something each request may (see line). The session below is never
// closed: requests of one that was closed may be under way.
type session struct {
	libcluster.Planner // what it is on the store

	registry *Registry
	call     Call // without its Op
	line     *line

	life context.Context // until it is closed
	end  context.CancelCauseFunc

	hearing, surveying turn     // requests of Next and of Survey may arrive late
	pending            *pending // found by Next and not returned yet; in turn
}

// turn is had by one at a time: it holds one.
type turn chan struct{}

// usable tells a call that is just being made that the session is closed.
func (s *session) usable() error { return context.Cause(s.life) }

// waits has an effect that may take long, one at a time, and until the session is closed.
func waits[T any](ctx context.Context, s *session, op Op, one turn, effect func(context.Context) (T, error)) (T, error) {
	return exchange(ctx, s.registry, s.call.of(op), func(ctx context.Context) (answer T, err error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(s.life, func() { cancel(errClosed) })()
		select {
		case one <- struct{}{}:
			defer func() { <-one }()
		case <-ctx.Done():
			return answer, context.Cause(ctx)
		}
		if err = s.usable(); err != nil {
			return answer, err
		}
		answer, err = effect(ctx)
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return answer, err
	})
}

// Next returns the list at joining, then all events since the last call. A change whose
// answer was lost is returned again, unless the store has gone back or dropped its history
// meanwhile: then all is listed anew.
func (s *session) Next(ctx context.Context) (libcluster.Change, error) {
	for {
		found, err := waits(ctx, s, OpNext, s.hearing, func(ctx context.Context) (*pending, error) {
			if s.pending == nil {
				before := s.registry.epoch.Load()
				change, err := s.Planner.Next(ctx)
				if err != nil {
					return nil, err
				}
				epoch := s.registry.epoch.Load()
				switch {
				case change.Reset && s.line.plan:
					epoch = before // it may have been listed at any moment since
				case change.Reset:
					epoch = s.line.epoch.Load()
				}
				s.pending = &pending{change, epoch}
			}
			return s.pending, nil
		})
		if err != nil {
			return libcluster.Change{}, err
		}
		if s.deliver(found) {
			return found.change, nil
		}
	}
}

// pending is a change that was found, and in which epoch of the store.
type pending struct {
	change libcluster.Change
	epoch  int64
}

// deliver notes that a change is returned. It is false if it has become wrong meanwhile.
func (s *session) deliver(found *pending) bool {
	s.hearing <- struct{}{}
	defer func() { <-s.hearing }()
	if s.pending == found {
		s.pending = nil
	}
	if found.epoch != s.registry.epoch.Load() {
		s.line.lost.Store(true)
		return false
	}
	if !found.change.Reset {
		s.registry.count(func(c *Counts) {
			c.Deliveries += len(found.change.Events)
			if found.change.Planned != nil {
				c.Deliveries++
			}
		})
	}
	return true
}

// request is the way of a call that only asks, and of a renewal, which may be late as a whole.
func request[T any](ctx context.Context, s *session, op Op, effect func(context.Context) (T, error)) (T, error) {
	if err := s.usable(); err != nil {
		var zero T
		return zero, err
	}
	return exchange(ctx, s.registry, s.call.of(op), effect)
}

// change makes a call that changes something: each of its requests may meet a fault.
func (s *session) change(ctx context.Context, op Op, call func(context.Context) error) error {
	if err := s.usable(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, asking{}, op))
	defer cancel(nil)
	defer context.AfterFunc(s.life, func() { cancel(errClosed) })()
	return call(ctx)
}

// Renew gives the record its whole TTL again. For a passive session it only
// confirms that the registry answers.
func (s *session) Renew(ctx context.Context) (time.Duration, error) {
	return request(ctx, s, OpRenew, func(ctx context.Context) (time.Duration, error) {
		ttl, err := s.Planner.Renew(ctx)
		if err == nil {
			s.registry.count(func(c *Counts) { c.Renewals++ })
		}
		return ttl, err
	})
}

// Update writes the record, if it is still this session's.
func (s *session) Update(ctx context.Context, m libcluster.Member) error {
	return s.change(ctx, OpUpdate, func(ctx context.Context) error { return s.Planner.Update(ctx, m) })
}

// Leave deletes the record or keeps it, if it is still this session's, and closes the
// session whether or not that worked.
func (s *session) Leave(ctx context.Context, d libcluster.Departure) error {
	err := s.Planner.Leave(context.WithValue(ctx, asking{}, OpLeave), d)
	return errors.Join(err, s.Close())
}

// Close closes the session and leaves the record to expire.
func (s *session) Close() error {
	s.end(errClosed)
	return nil
}

// Look returns the whole cluster. The session may have lost its record.
func (s *session) Look(ctx context.Context) (libcluster.Survey, error) {
	return request(ctx, s, OpLook, s.Planner.Look)
}

// SetDraining notes that an instance is to give its assignment away, or takes that back. The
// session may have lost its record.
func (s *session) SetDraining(ctx context.Context, id string, draining bool) error {
	return s.change(ctx, OpSetDraining, func(ctx context.Context) error { return s.Planner.SetDraining(ctx, id, draining) })
}

// Survey returns the whole cluster.
func (s *session) Survey(ctx context.Context, after int64) (libcluster.Survey, error) {
	return waits(ctx, s, OpSurvey, s.surveying, func(ctx context.Context) (libcluster.Survey, error) {
		return s.Planner.Survey(context.WithValue(ctx, surveying{}, true), after)
	})
}

// Claim makes the session the coordinator if there is none.
func (s *session) Claim(ctx context.Context, says []byte) (bool, error) {
	var claimed bool
	err := s.change(ctx, OpClaim, func(ctx context.Context) (err error) {
		claimed, err = s.Planner.Claim(ctx, says)
		return err
	})
	return claimed, err
}

// Swap replaces the plan, if the session coordinates.
func (s *session) Swap(ctx context.Context, revision int64, plan []byte) error {
	return s.change(ctx, OpSwap, func(ctx context.Context) error { return s.Planner.Swap(ctx, revision, plan) })
}

// Acknowledge notes that the session has stopped.
func (s *session) Acknowledge(ctx context.Context, revision, generation int64, remaining string) error {
	return s.change(ctx, OpAcknowledge, func(ctx context.Context) error { return s.Planner.Acknowledge(ctx, revision, generation, remaining) })
}
