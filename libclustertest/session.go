package libclustertest

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
)

var (
	errClosed  = errors.New("libclustertest: the session is closed")
	errPassive = errors.New("libclustertest: a passive instance has no record to update")
)

// session is one stay of one instance. The fields above the line never change
// once it is open.
type session struct {
	stay     *libcluster.Stay
	registry *Registry
	cluster  string
	id       string
	passive  bool
	mode     libcluster.Mode
	log      *zap.Logger
	sent     int64 // the store's last lease when Join was called
	lease    *lease

	// Guarded by registry.mu, and but for closed used by Next only.
	listed *libcluster.Change // the list at joining, until it is returned
	next   int64              // the first revision that was not returned
	epoch  int                // the cluster's when it was last listed
	closed bool
}

func (s *session) call(op Op) Call { return Call{Op: op, Cluster: s.cluster, ID: s.id} }

// Next returns the list at joining, then all events since the last call.
func (s *session) Next(ctx context.Context) (libcluster.Change, error) {
	for {
		found, err := exchange(ctx, s.registry, s.call(OpNext), s.await)
		if err != nil {
			return libcluster.Change{}, err
		}
		if s.commit(found) {
			return found.change, nil
		}
		// The store has gone back, or history was dropped, while the answer
		// was under way: what it says is out of date.
	}
}

// pending is a change that was found but not returned yet. Whoever asks again,
// because the answer got lost, finds it again.
type pending struct {
	change libcluster.Change
	next   int64
	epoch  int
}

// await waits until there is something to report.
func (s *session) await(ctx context.Context) (pending, error) {
	for {
		found, changed, err := s.look()
		if changed == nil {
			return found, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return pending{}, context.Cause(ctx)
		}
	}
}

// look returns what there is to report, or a channel to wait on.
func (s *session) look() (pending, <-chan struct{}, error) {
	r := s.registry
	r.lock()
	defer r.unlock()
	if err := s.over(); err != nil {
		return pending{}, nil, err
	}
	c := r.store.cluster(s.cluster)
	switch {
	case s.listed != nil:
		return pending{*s.listed, s.next, s.epoch}, nil, nil
	case s.epoch != c.epoch, s.mode == libcluster.ModeDirect && s.next <= c.dropped:
		return pending{s.list(c), s.revisionFor(c) + 1, c.epoch}, nil, nil
	case s.mode != libcluster.ModeDirect:
		if c.news(s.next-1, nil, true) == 0 {
			return pending{}, c.change(), nil
		}
		return pending{s.list(c), s.revisionFor(c) + 1, c.epoch}, nil, nil
	}
	events := c.since(s.next)
	if len(events) == 0 {
		return pending{}, c.change(), nil
	}
	found := pending{next: c.revision + 1, epoch: s.epoch}
	found.change.Generation = c.revision
	for _, e := range events {
		found.change.Events = append(found.change.Events, s.event(e))
	}
	return found, nil, nil
}

// commit records that a change is being returned. It is false if in the
// meantime the change has become wrong.
func (s *session) commit(found pending) bool {
	r := s.registry
	r.lock()
	defer r.unlock()
	if s.listed == nil && found.epoch != r.store.cluster(s.cluster).epoch || s.over() != nil {
		return false
	}
	switch {
	case s.listed != nil:
		s.listed = nil
	case found.change.Planned != nil:
		r.counts.Deliveries++
	case found.change.Reset:
		r.counts.Reads++
	default:
		r.counts.Deliveries += len(found.change.Events)
	}
	s.next, s.epoch = found.next, found.epoch
	s.lease.seen = max(s.lease.seen, found.next-1)
	return true
}

// over returns why the session is of no more use, or nil. The caller holds the
// registry's mutex.
func (s *session) over() error {
	if s.closed {
		return errClosed
	}
	return s.lost()
}

// lost is over by the store's own knowledge: a request that arrives late does
// not say that its session has been closed. The caller holds the registry's
// mutex.
func (s *session) lost() error {
	if now := s.registry.store.revision; s.passive && s.lease.seen > now {
		return reset(now)
	}
	return s.lease.lost
}

// usable is over for a call that is just being made.
func (s *session) usable() error {
	s.registry.lock()
	defer s.registry.unlock()
	if s.closed {
		return errClosed
	}
	return nil
}

// revisionFor is how far the session has come when it has been told everything.
func (s *session) revisionFor(c *cluster) int64 {
	if s.mode == libcluster.ModeDirect {
		return c.revision
	}
	return s.registry.store.revision
}

// list returns all members, or in a mode with a plan that. The caller holds the
// registry's mutex.
func (s *session) list(c *cluster) libcluster.Change {
	if s.mode != libcluster.ModeDirect {
		now := c.present()
		return libcluster.Change{Planned: &now}
	}
	change := libcluster.Change{Generation: c.revision, Reset: true}
	for _, id := range sortedKeys(c.records) {
		if e := s.event(c.record(id)); !e.Gone {
			change.Events = append(change.Events, e)
		}
	}
	return change
}

// event tells what a record says. One that does not parse is no member, also if
// it was one before.
func (s *session) event(e event) libcluster.Event {
	gone := libcluster.Event{Member: libcluster.Member{ID: e.id}, Gone: true}
	if e.gone {
		return gone
	}
	member, err := libcluster.ParseMember(e.id, []byte(e.value))
	if err != nil {
		s.log.Warn("ignoring a record that is not a member's", zap.Error(err))
		return gone
	}
	return libcluster.Event{Member: member, Orphan: e.orphan}
}

// Renew gives the record its whole TTL again. For a passive session it only
// confirms that the registry answers.
func (s *session) Renew(ctx context.Context) (time.Duration, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	return exchange(ctx, s.registry, s.call(OpRenew), func(context.Context) (time.Duration, error) {
		r := s.registry
		r.lock()
		defer r.unlock()
		if err := s.lost(); err != nil {
			return 0, err
		}
		r.counts.Renewals++
		if !s.passive {
			r.store.renew(s.lease)
		}
		return s.lease.ttl, nil
	})
}

// Update writes the record, if it is still this session's.
func (s *session) Update(ctx context.Context, m libcluster.Member) error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.passive {
		return errPassive
	}
	value := string(m.Record())
	_, err := exchange(ctx, s.registry, s.call(OpUpdate), func(context.Context) (none, error) {
		r := s.registry
		r.lock()
		defer r.unlock()
		if err := s.lost(); err != nil {
			return none{}, err
		}
		r.store.put(r.store.cluster(s.cluster), s.id, value, s.lease)
		r.counts.Writes++
		return none{}, nil
	})
	return err
}

// Leave deletes the record, if it is still this session's, and closes the
// session whether or not that worked.
func (s *session) Leave(ctx context.Context) error {
	return s.leave(ctx, func(st *store) error {
		if s.lease.lost == nil {
			st.revoke(s.lease, "it has left")
		}
		return nil // of a record that is gone, or another's, there is nothing to remove
	})
}

// LeaveFor puts the record under a lease of d that nobody renews.
func (s *session) LeaveFor(ctx context.Context, d time.Duration, kept libcluster.Member) error {
	return s.leave(ctx, func(st *store) error {
		if s.lease.lost != nil {
			return s.lease.lost
		}
		s.park(st, d, kept)
		return nil
	})
}

func (s *session) leave(ctx context.Context, let func(*store) error) error {
	_, err := exchange(ctx, s.registry, s.call(OpLeave), func(context.Context) (none, error) {
		r := s.registry
		r.lock()
		defer r.unlock()
		if s.passive {
			return none{}, nil
		}
		before := r.store.revision
		err := let(&r.store)
		r.counts.Writes += int(r.store.revision - before)
		return none{}, err
	})
	return errors.Join(err, s.Close())
}

// Close closes the session and leaves the record to expire.
func (s *session) Close() error {
	r := s.registry
	r.lock()
	defer r.unlock()
	if !s.closed {
		s.closed = true
		r.store.cluster(s.cluster).wake() // a Next that waits ends
	}
	return nil
}
