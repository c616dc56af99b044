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
	libcluster.Planner
	a        *app
	stay     int
	watched  bool
	deadline time.Time // by the rule: the last renewal's sending plus the window. Guarded by the world's lock
	past     *time.Timer
}

// note is what an incarnation says that it has stopped, and noting finds it in the
// context of the call.
type (
	note struct {
		generation int64
		remaining  string
	}
	noting struct{}
)

// caller finds the incarnation that makes a call in the call's context.
type caller struct{}

func (s *incarnation) within(ctx context.Context) context.Context {
	return context.WithValue(ctx, caller{}, s)
}

func (w witness) Capabilities() libcluster.Capabilities { return w.a.w.Capabilities() }

func (w witness) Enter(r libcluster.Registration) (libcluster.Membership, error) {
	r.Logger = zap.NewNop()
	m, err := w.a.w.Enter(r)
	return &membership{a: w.a, Membership: m}, err
}

// membership is one of an app's.
type membership struct {
	libcluster.Membership
	a    *app
	last *incarnation // that has joined
}

func (m *membership) Join(ctx context.Context, own libcluster.Member) (libcluster.Session, time.Duration, error) {
	s := &incarnation{a: m.a}
	m.a.w.Locked(func() {
		s.stay = m.a.Stay
		if m.last != nil && m.last.acts() {
			m.a.w.Fail("%s rejoins before it has stopped %v", m.a, m.a.doing())
		}
	})
	sent := time.Now()
	session, ttl, err := m.Membership.Join(s.within(ctx), own)
	if err != nil {
		return nil, 0, err
	}
	s.Planner, m.last = session.(libcluster.Planner), s
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
func (s *incarnation) acts() bool {
	for _, d := range s.a.open {
		if d.of == s {
			return true
		}
	}
	return false
}

func (s *incarnation) Next(ctx context.Context) (libcluster.Change, error) {
	s.a.w.Locked(func() {
		s.watched = true
		s.a.view = s
	})
	return s.Planner.Next(s.within(ctx))
}

func (s *incarnation) Renew(ctx context.Context) (time.Duration, error) {
	sent := time.Now()
	ttl, err := s.Planner.Renew(s.within(ctx))
	if err == nil {
		s.a.w.Locked(func() { s.renewed(sent, ttl) })
	}
	return ttl, err
}

func (s *incarnation) Update(ctx context.Context, m libcluster.Member) error {
	return s.Planner.Update(s.within(ctx), m)
}

func (s *incarnation) Leave(ctx context.Context, d libcluster.Departure) error {
	s.a.w.Locked(func() {
		if d.Stopped && s.acts() {
			s.a.w.Fail("%s leaves as one that has stopped and has not", s.a)
		}
	})
	return s.Planner.Leave(s.within(ctx), d)
}

func (s *incarnation) SetDraining(ctx context.Context, id string, draining bool) error {
	return s.Planner.SetDraining(s.within(ctx), id, draining)
}

func (s *incarnation) Survey(ctx context.Context, after int64) (libcluster.Survey, error) {
	return s.Planner.Survey(s.within(ctx), after)
}

func (s *incarnation) Claim(ctx context.Context, says []byte) (bool, error) {
	return s.Planner.Claim(s.within(ctx), says)
}

func (s *incarnation) Swap(ctx context.Context, revision int64, plan []byte) error {
	return s.Planner.Swap(s.within(ctx), revision, plan)
}

func (s *incarnation) Acknowledge(ctx context.Context, revision, generation int64, remaining string) error {
	return s.Planner.Acknowledge(context.WithValue(s.within(ctx), noting{}, note{generation, remaining}), revision, generation, remaining)
}
