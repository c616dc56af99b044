package libcluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/chance"
	"github.com/libcluster/libcluster/internal/quote"
)

const (
	// longestJoin bounds an attempt to join, so that a registry that is overloaded, since
	// many join at once, is not asked anew for what it was about to answer. The first
	// attempt to rejoin has joinTimeout, and each one twice the time of the one before: an
	// answer may have been lost, and meanwhile the instance does nothing.
	joinTimeout = 5 * time.Second
	longestJoin = 4 * joinTimeout

	// errandTimeout bounds what else is asked of a registry, and asked again.
	errandTimeout = 5 * time.Second

	// leaveTimeout bounds the removal of the record when Leave's context has
	// no end of its own.
	leaveTimeout = 5 * time.Second

	// leastLeave is how long Leave may take if its context ends before: enough for
	// the last callback and for a registry that answers.
	leastLeave = time.Second

	// releaseGrace is what a registry's call may take to return after its
	// context has ended.
	releaseGrace = 250 * time.Millisecond

	// Waits after a failure double from backoffBase to backoffCap, with
	// jitter. The cap decides how soon after an outage all instances are back.
	backoffBase = 100 * time.Millisecond
	backoffCap  = time.Second

	// lookAgain is how often an instance that is shut out looks whether it can join.
	lookAgain = 10 * time.Second
)

// stay is the time from one Join to the Leave that ends it. Three goroutines
// work for it: ping holds the record, the balancer (one for each incarnation,
// started and awaited by ping) computes the state, the notifier calls back.
// All of them end when ctx does; leave ends it and waits for them.
type stay struct {
	c      *Cluster
	in     Membership // nil before the first attempt to join; used by ping
	name   string     // the cluster's, for people
	log    *zap.Logger
	ctx    context.Context
	cancel context.CancelFunc

	ready   chan struct{} // closed by the notifier after the first callback
	failed  chan struct{} // closed when joining has been refused for good
	leaving chan struct{} // closed by the first leave
	left    atomic.Bool   // set just before leaving is closed

	notifier *notifier
	pinged   chan struct{} // closed by ping when it ends

	// current is the incarnation whose session is open: the live one, or while
	// rejoining the lost one. Only ping changes it; after ping has ended it
	// belongs to leave.
	current atomic.Pointer[incarnation]
	// watch belongs to the goroutine that watches the coverage for the cluster.
	watch   coverageWatch
	reports reports
	// publishing is held around each Update.
	publishing chan struct{}

	failOnce, leaveOnce sync.Once
	failErr             error         // why failed is closed; read after that
	done                chan struct{} // closed when leave is through
	leaveErr            error         // read after done

	mu      sync.Mutex // guards lastErr
	lastErr error      // the latest trouble with the registry
}

func newStay(c *Cluster, run *runner) *stay {
	s := &stay{
		c:          c,
		name:       c.cfg.registration().Cluster(),
		ready:      make(chan struct{}),
		failed:     make(chan struct{}),
		leaving:    make(chan struct{}),
		pinged:     make(chan struct{}),
		publishing: make(chan struct{}, 1),
		done:       make(chan struct{}),
		reports:    reports{by: make(map[string]*report), foreign: make(map[string]struct{})},
	}
	s.notifier = newNotifier(s, run)
	s.log = c.log.With(zap.String("cluster", s.name))
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *stay) start() {
	go s.notifier.notify()
	go s.ping()
}

// joined waits until the first callback has returned, or says why it never will.
func (s *stay) joined(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-s.failed:
		return s.failErr
	case <-s.leaving:
		return ErrLeft
	case <-ctx.Done():
	}
	if trouble := s.trouble(); trouble != nil {
		return fmt.Errorf("%w; last: %w", context.Cause(ctx), trouble)
	}
	return context.Cause(ctx)
}

// notJoined returns the error of a Join or Run that has never joined.
func (s *stay) notJoined(err error) error {
	return fmt.Errorf("libcluster: join %s: %w", s.name, err)
}

// leave tells the application, then removes the record, or leaves it to live for
// returning, then ends everything.
func (s *stay) leave(ctx context.Context, returning time.Duration) error {
	first := false
	s.leaveOnce.Do(func() {
		first = true
		s.log.Debug("leaving", zap.Duration("returning within", returning))
		s.left.Store(true)
		close(s.leaving)
	})
	if !first {
		select {
		case <-s.done:
			return s.leaveErr
		case <-ctx.Done():
			return fmt.Errorf("libcluster: still leaving: %w", context.Cause(ctx))
		}
	}
	defer func() {
		s.c.mu.Lock()
		s.c.stay = nil
		s.c.mu.Unlock()
		close(s.done)
	}()

	// The record stays and is renewed while the application winds down.
	select {
	case <-s.notifier.ended:
	case <-ctx.Done():
		what := "a callback has not returned"
		if s.notifier.run != nil {
			what = "a callback has not returned, or a function given to Run"
		}
		s.leaveErr = fmt.Errorf("libcluster: left, but %s: %w", what, context.Cause(ctx))
	}
	s.cancel()
	if !s.awaitPing(ctx) {
		s.leaveErr = errors.Join(s.leaveErr, errors.New("libcluster: left, but a call of the registry has not returned"))
		s.log.Error("a call of the registry has not returned")
		go func() { // ends with that call, and with what it may still have opened
			<-s.pinged
			s.discard(s.current.Load())
		}()
	} else if inc := s.current.Load(); inc != nil {
		s.leaveErr = errors.Join(s.leaveErr, s.remove(ctx, inc.session, returning))
	}
	s.leaveErr = quote.Error(s.leaveErr)
	s.log.Debug("left the cluster", zap.Error(s.leaveErr))
	return s.leaveErr
}

// awaitPing waits for ping to end until ctx does, and a little longer, since
// ping's own calls end only now. It reports whether ping has ended.
func (s *stay) awaitPing(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	select {
	case <-s.pinged:
		return true
	case <-ctx.Done():
	}
	select {
	case <-s.pinged:
		return true
	case <-time.After(releaseGrace):
		return false
	}
}

// remove ends a session and its record, or only the session if the assignment is to be
// reserved.
func (s *stay) remove(ctx context.Context, session Session, returning time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	stopped := s.c.cfg.Mode == ModeExclusive && !s.c.cfg.Passive && !s.notifier.acting.Load()
	d := Departure{Reserve: returning, Last: s.kept(stopped), Stopped: stopped}
	if s.c.cfg.Mode == ModePlanned && !s.c.cfg.Passive && returning == 0 {
		d.Stopped = true // nobody waits, and the note tells the coordinator that this is no crash
	}
	if !s.c.cfg.Registry.Capabilities().Reserves {
		d.Reserve = 0
	}
	if planner, ok := session.(Planner); ok && stopped && returning == 0 {
		s.closePlan(ctx, planner)
	}
	err := session.Leave(ctx, d)
	switch {
	case err != nil && d.Reserve > 0:
		return fmt.Errorf("libcluster: left, but the place may not be kept: %w", err)
	case err != nil && d.Stopped:
		return fmt.Errorf("libcluster: left, but the others will wait for the record to expire: %w", err)
	case err != nil:
		return fmt.Errorf("libcluster: left, but the record stays until it expires: %w", err)
	case returning > d.Reserve:
		return ErrCannotReturn
	}
	return nil
}

// kept is the reserved record of an instance that has left for a restart: it keeps the
// assignment, and no instance is there.
func (s *stay) kept(stopped bool) Member {
	m := s.registration().Member
	m.kept = true
	if stopped {
		m.plans.window = 0 // nobody acts by this record
	}
	return m
}

// fail refuses the stay for good; Join returns err.
func (s *stay) fail(err error) {
	s.failOnce.Do(func() {
		s.note(err)
		s.failErr = quote.Error(err)
		close(s.failed)
	})
}

// refuse fails a Join that is still waiting. Once joined, the instance goes on, since the
// error may pass.
func (s *stay) refuse(err error) {
	if !isClosed(s.ready) {
		s.fail(err)
	}
}

// stopping reports whether nothing new should be started.
func (s *stay) stopping() bool { return s.left.Load() || s.ctx.Err() != nil }

// wake has the notifier look at the state. It never blocks.
func (s *stay) wake() { s.notifier.changed.set() }

func (s *stay) registration() Registration {
	r := s.c.cfg.registration()
	r.Member = s.c.desired().clone()
	r.Logger, r.chance = s.c.log, s.c.chance
	if known := s.c.known.Load(); known != nil && s.c.cfg.Mode != ModeDirect {
		r.Member.plans.seen = known.generation
	}
	return r
}

func (s *stay) note(err error) {
	s.mu.Lock()
	s.lastErr = quote.Error(err)
	s.mu.Unlock()
}

// trouble returns the latest error of the registry.
func (s *stay) trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastErr
}

// isFinal reports whether err says that the incarnation is over, rather than
// that nothing is known.
func isFinal(err error) bool {
	return errors.Is(err, ErrRecordGone) || errors.Is(err, ErrInstanceTaken) || errors.Is(err, ErrRegistryReset)
}

// retry waits after failures of one thing.
type retry struct {
	chance   *chance.Source
	failures int
}

func (c *Cluster) newRetry() retry { return retry{chance: c.chance} }

// reset begins anew, after a success.
func (r *retry) reset() { *r = retry{chance: r.chance} }

// wait waits longer after each failure, and reports false if ctx ended first.
func (r *retry) wait(ctx context.Context) bool { return sleep(ctx, r.next()) }

// next returns how long to wait this time.
func (r *retry) next() time.Duration {
	d := min(backoffBase<<min(r.failures, 10), backoffCap)
	r.failures++
	return d/2 + r.chance.Below(d/2)
}

// atLeast returns a context that ends when ctx has ended and d has passed.
func atLeast(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, release := context.WithoutCancel(ctx), func() {}
	if end, ends := ctx.Deadline(); ends {
		longer, release = context.WithTimeout(longer, max(d, time.Until(end)))
	}
	longer, cancel := context.WithCancelCause(longer)
	go func() {
		if !sleep(longer, d) {
			return
		}
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) { // or it ends by itself
				cancel(context.Cause(ctx))
			}
		case <-longer.Done():
		}
	}()
	return longer, func() { cancel(nil); release() }
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
