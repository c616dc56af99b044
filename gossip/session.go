package gossip

import (
	"bytes"
	"context"
	"time"

	"github.com/libcluster/libcluster"
)

// session is one incarnation at a node.
type session struct {
	of   *membership
	node *node
	err  error // why it is over; the node's mu guards it

	known map[string]entry // what Next has returned; only Next uses it
}

// open makes a session the node's latest. The one before it is over. The ID may have been taken
// meanwhile.
func (n *node) open(m *membership) (*session, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !m.reg.Passive && !n.publishes() {
		return nil, libcluster.ErrInstanceTaken
	}
	if n.session != nil {
		n.session.end(libcluster.ErrRecordGone)
	}
	n.session = &session{of: m, node: n}
	return n.session, nil
}

// end notes why the session is over. The first reason counts. The caller holds the node's mu.
func (s *session) end(why error) {
	if s.err == nil {
		s.err = why
		s.node.wake()
	}
}

// shut ends the session because it is not wanted any more, and reports whether it is the
// node's latest.
func (s *session) shut() (latest bool) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	s.end(errClosed)
	return s.node.session == s
}

// Next waits until the members have changed for this node.
func (s *session) Next(ctx context.Context) (libcluster.Change, error) {
	n := s.node
	for ctx.Err() == nil {
		now := time.Now()
		n.mu.Lock()
		members, again := n.records.members(now)
		n.countHere(members)
		changed, err := n.changed, s.err
		n.mu.Unlock()
		if err != nil {
			return libcluster.Change{}, err
		}
		if change, is := s.change(members); is {
			return change, nil
		}
		var due <-chan time.Time // never
		if !again.IsZero() {
			due = time.After(again.Sub(now))
		}
		select {
		case <-changed:
		case <-due:
		case <-ctx.Done():
		}
	}
	return libcluster.Change{}, context.Cause(ctx)
}

// change returns what has changed since the call before.
func (s *session) change(members map[string]entry) (change libcluster.Change, is bool) {
	change.Reset = s.known == nil
	for id, e := range members {
		if known, there := s.known[id]; !there || !bytes.Equal(known.Record, e.Record) {
			change.Events = append(change.Events, libcluster.Event{Member: e.member})
		}
	}
	for id, e := range s.known {
		if _, there := members[id]; !there {
			change.Events = append(change.Events, libcluster.Event{Member: e.member, Gone: true})
		}
	}
	s.known = members
	return change, change.Reset || len(change.Events) > 0
}

// Renew has a majority of Expect confirm that it has the record.
func (s *session) Renew(ctx context.Context) (time.Duration, error) {
	own, err := s.own()
	ttl := s.of.ttl()
	if err == nil && ttl > 0 {
		err = s.node.confirm(ctx, own, ttl)
	}
	if _, over := s.own(); over != nil {
		err = over // it may have come with the answers
	}
	return ttl, err
}

// own returns the node's entry, or why the session is over.
func (s *session) own() (entry, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	return s.node.own, s.err
}

// Update publishes another record. It returns when all nodes that are up have it.
func (s *session) Update(ctx context.Context, m libcluster.Member) error {
	if err := fits(m); err != nil {
		return libcluster.Permanent(err)
	}
	n := s.node
	n.mu.Lock()
	if s.err != nil || s.of.reg.Passive {
		defer n.mu.Unlock()
		return s.err
	}
	own := n.publish(func(e *entry) { e.Record, e.member = m.Record(), m })
	n.mu.Unlock()
	n.tellEverybody(ctx, own)
	return nil
}

// Leave tells everybody that the record has gone, and ends the node.
func (s *session) Leave(ctx context.Context, _ libcluster.Departure) error {
	switch {
	case !s.shut():
	case s.of.drop(s.node):
		s.node.leave(ctx)
	default:
		s.node.stop() // or wait until it has, if it gives way to another one
	}
	return nil
}

// Close ends the session. The node runs on for a little while, so that an instance that joins
// again keeps its record. If it does not, the others find its port refused.
func (s *session) Close() error {
	if s.shut() {
		s.of.linger(s.node)
	}
	return nil
}
