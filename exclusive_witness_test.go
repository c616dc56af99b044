package libcluster_test

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
)

// witness is the registry as one app sees it. It notes until when, by the rule, the
// app may act.
type witness struct{ a *app }

func (w witness) String() string { return "witness" }

// incarnation is one session of an app.
type incarnation struct {
	libcluster.Session
	a        *app
	stay     int
	watched  bool
	deadline time.Time // by the rule: the last renewal's sending plus the window. Guarded by the world's lock
	past     *time.Timer
}

// caller finds the incarnation that makes a call in the call's context.
type caller struct{}

func (s *incarnation) within(ctx context.Context) context.Context {
	return context.WithValue(ctx, caller{}, s)
}

func (w witness) Join(ctx context.Context, r libcluster.Registration) (libcluster.Session, time.Duration, error) {
	s := &incarnation{a: w.a}
	w.a.w.Locked(func() { s.stay = w.a.Stay })
	if previous, ok := r.Previous.(*incarnation); ok {
		r.Previous = previous.Session
		w.a.w.Locked(func() {
			if previous.acts() {
				w.a.w.Fail("%s rejoins before it has stopped", w.a)
			}
		})
	}
	r.Logger = zap.NewNop()
	sent := time.Now()
	session, ttl, err := w.a.w.Join(s.within(ctx), r)
	if err != nil {
		return nil, 0, err
	}
	s.Session = session
	s.a.w.Locked(func() { s.renewed(sent, ttl) })
	return s, ttl, nil
}

// renewed moves the deadline, unless it has passed: an answer that comes late changes
// nothing. Just after it everybody's state is read.
func (s *incarnation) renewed(sent time.Time, granted time.Duration) {
	if s.watched && !time.Now().Before(s.deadline) {
		return
	}
	window := libcluster.Window(min(granted, s.a.cfg.TTL))
	deadline := sent.Add(time.Duration(float64(window)/s.a.rate) + 1)
	if !deadline.After(s.deadline) {
		return // a renewal that was sent later has been answered
	}
	s.deadline = deadline
	if s.past == nil {
		s.past = time.AfterFunc(time.Until(s.deadline)+rounding+1, func() { s.a.w.Locked(s.a.w.sample) })
	} else {
		s.past.Reset(time.Until(s.deadline) + rounding + 1)
	}
}

// acts tells whether its app does something in its place.
func (s *incarnation) acts() bool { return s.a.open != nil && s.a.of == s }

func (s *incarnation) planner() libcluster.Planner { return s.Session.(libcluster.Planner) }

func (s *incarnation) Next(ctx context.Context) (libcluster.Change, error) {
	s.a.w.Locked(func() {
		s.watched = true
		s.a.view = s
	})
	return s.Session.Next(s.within(ctx))
}

func (s *incarnation) Renew(ctx context.Context) (time.Duration, error) {
	sent := time.Now()
	ttl, err := s.Session.Renew(s.within(ctx))
	if err == nil {
		s.a.w.Locked(func() { s.renewed(sent, ttl) })
	}
	return ttl, err
}

func (s *incarnation) Update(ctx context.Context, m libcluster.Member) error {
	return s.Session.Update(s.within(ctx), m)
}

func (s *incarnation) Leave(ctx context.Context) error {
	return s.Session.Leave(s.within(ctx))
}

func (s *incarnation) LeaveFor(ctx context.Context, d time.Duration, kept libcluster.Member) error {
	return s.Session.(libcluster.Returner).LeaveFor(s.within(ctx), d, kept)
}

func (s *incarnation) Incarnation() string { return s.planner().Incarnation() }

func (s *incarnation) Survey(ctx context.Context, after int64) (libcluster.Survey, error) {
	return s.planner().Survey(s.within(ctx), after)
}

func (s *incarnation) Claim(ctx context.Context, says []byte) (bool, error) {
	return s.planner().Claim(s.within(ctx), says)
}

func (s *incarnation) Swap(ctx context.Context, revision int64, plan []byte) error {
	return s.planner().Swap(s.within(ctx), revision, plan)
}

func (s *incarnation) Drained(ctx context.Context, revision, generation int64) error {
	return s.planner().Drained(s.within(ctx), revision, generation)
}

func (s *incarnation) LeaveDrained(ctx context.Context, d time.Duration, kept libcluster.Member) error {
	s.a.w.Locked(func() {
		if s.acts() {
			s.a.w.Fail("%s leaves as one that has stopped and has not", s.a)
		}
	})
	return s.planner().LeaveDrained(s.within(ctx), d, kept)
}
