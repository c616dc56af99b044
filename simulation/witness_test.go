package simulation

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
)

// windowPercent is the part of its granted TTL for which a record is trusted.
const windowPercent = 60

// witness is the registry as one app sees it. It stands between the app and the
// registry and notes what the app was told when, which is all that the app can
// know.
type witness struct{ a *app }

// incarnation is one session, as far as its app knows. Guarded by the world's lock.
type incarnation struct {
	libcluster.Session
	a    *app
	stay int

	restores int // how often the store had gone back when its stay began

	rejoins   bool      // it is not the first of its stay
	deadline  time.Time // by the rule: the last renewal's sending plus the window
	past      *time.Timer
	watched   bool  // Next was called: from now on the deadline counts
	told      bool  // a change was delivered
	first     int64 // the generation of that
	era       int   // of the latest
	astray    bool  // it has missed that the store has gone back
	over      error // a final answer was delivered
	tampered  bool  // somebody else than time has touched its record
	overtaken bool  // the latest update of its record is not the one that was asked for last
	fenced    bool  // its app's state was read as fenced
}

// key finds the incarnation that a call belongs to in the call's context.
type key struct{}

func (w witness) Capabilities() libcluster.Capabilities { return w.a.w.Capabilities() }

func (w witness) Enter(r libcluster.Registration) (libcluster.Membership, error) {
	r.Logger = zap.NewNop() // it is used while the world's lock is held
	m, err := w.a.w.Enter(r)
	return membership{m, w.a}, err
}

// membership is one of an app's.
type membership struct {
	libcluster.Membership
	a *app
}

func (m membership) Join(ctx context.Context, own libcluster.Member) (libcluster.Session, time.Duration, error) {
	s := m.a.opens()
	sent := time.Now()
	session, ttl, err := m.Membership.Join(context.WithValue(ctx, key{}, s), own)
	if err != nil {
		m.a.w.Locked(func() { m.a.orphans++ }) // it may have happened nevertheless
		return nil, 0, err
	}
	s.Session = session
	s.a.w.Locked(func() { s.renewed(sent, ttl) })
	return s, ttl, nil
}

func (s *incarnation) Next(ctx context.Context) (libcluster.Change, error) {
	s.a.w.Locked(func() { s.watched = true })
	change, err := s.Session.Next(context.WithValue(ctx, key{}, s))
	if ctx.Err() != nil {
		return change, err
	}
	s.a.w.Locked(func() {
		s.learns(err)
		if err == nil {
			s.tells(change)
			s.a.view = s
			s.a.eras[change.Generation] = append(s.a.eras[change.Generation], s.era)
		}
	})
	return change, err
}

// tells notes that a change is delivered. Where a store that has gone back has come as far again as
// its session had been told, the change after that is delivered as if nothing had happened: the
// session learns of it by its lease, if that is not in what was restored.
func (s *incarnation) tells(change libcluster.Change) {
	now := s.a.w.past.era()
	switch {
	case !s.told:
		s.told, s.first = true, change.Generation
	case change.Reset:
		s.astray = false
	case s.era < now:
		s.astray = true
		s.a.w.Happened("store has come as far again")
	}
	s.era = now
}

func (s *incarnation) Renew(ctx context.Context) (time.Duration, error) {
	sent := time.Now()
	ttl, err := s.Session.Renew(context.WithValue(ctx, key{}, s))
	s.a.w.Locked(func() {
		s.learns(err)
		if err == nil {
			s.renewed(sent, ttl)
		}
	})
	return ttl, err
}

func (s *incarnation) Update(ctx context.Context, m libcluster.Member) error {
	err := s.Session.Update(context.WithValue(ctx, key{}, s), m)
	s.a.w.Locked(func() { s.learns(err) })
	return err
}

func (s *incarnation) Leave(ctx context.Context, d libcluster.Departure) error {
	err := s.Session.Leave(context.WithValue(ctx, key{}, s), d)
	if err != nil && d.Reserve == 0 {
		s.a.w.Locked(func() { s.a.orphans++ })
	}
	return err
}

// Close of a session that never came to anything leaves a record that the app has
// forgotten, until it is replaced or expires.
func (s *incarnation) Close() error {
	s.a.w.Locked(func() {
		if !s.watched && !errors.Is(s.a.Err(), libcluster.ErrLeft) {
			s.a.orphans++
		}
	})
	return s.Session.Close()
}

// renewed moves the deadline, unless it has passed: an answer that comes late
// changes nothing. At the deadline itself the state is read.
func (s *incarnation) renewed(sent time.Time, ttl time.Duration) {
	if s.watched && !time.Now().Before(s.deadline) {
		return
	}
	deadline := sent.Add(ttl * windowPercent / 100)
	if !deadline.After(s.deadline) {
		return // a renewal that was sent later has been answered
	}
	s.deadline = deadline
	if s.past == nil {
		s.past = time.AfterFunc(time.Until(s.deadline), func() { s.a.w.Locked(s.a.checkDeadline) })
	} else {
		s.past.Reset(time.Until(s.deadline))
	}
}

func (s *incarnation) learns(err error) {
	if errors.Is(err, libcluster.ErrRecordGone) || errors.Is(err, libcluster.ErrInstanceTaken) ||
		errors.Is(err, libcluster.ErrRegistryReset) {
		s.over = err
	}
}
