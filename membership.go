package libcluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/quote"
)

const (
	// longestJoin bounds an attempt to join, so that a registry that is overloaded, since
	// many join at once, is not asked anew for what it was about to answer. The first
	// attempt to rejoin has joinTimeout, and each one twice the time of the one before: an
	// answer may have been lost, and meanwhile the instance does nothing.
	joinTimeout = 5 * time.Second
	longestJoin = 4 * joinTimeout

	// leaveTimeout bounds the removal of the record, unless half the time that is left to
	// Leave's context is more.
	leaveTimeout = 5 * time.Second

	// leastLeave is how long Leave may take if its context ends before: enough for
	// the last callback and for a registry that answers.
	leastLeave = time.Second

	// lookAgain is how often an instance that is shut out looks whether it can join.
	lookAgain = 10 * time.Second
)

// membership is the time from one Join to the Leave that ends it. Three goroutines
// work for it: ping holds the record, the balancer (one for each incarnation,
// started and awaited by ping) computes the state, the notifier calls back.
// All of them end when ctx does; leave ends it and waits for them.
type membership struct {
	c      *Cluster
	name   string // the cluster's, for people
	ctx    context.Context
	cancel context.CancelFunc

	life
	reporter
	notifier *notifier
	hook     *memberHook // nil: the application wants to know nothing of members
	pinger   *pinger
	coverage coverageLog
}

// life is how far a membership has come.
type life struct {
	ready   chan struct{} // closed by the notifier after the first callback
	failed  chan struct{} // closed when joining has been refused for good
	leaving chan struct{} // closed by the first leave
	left    atomic.Bool   // set just before leaving is closed
	lingers atomic.Bool   // leaving takes long, and the record says that the instance drains
	done    chan struct{} // closed when leave is through

	leaveOnce sync.Once
	leaveErr  error // read after done

	mu      sync.Mutex      // guards what follows
	hurry   func(why error) // has an exit wait for nothing any more; nil: there is none
	failErr error           // why failed is closed
	joined  bool            // ready was closed before failed was
}

// becomeReady notes that the first callback has returned, or that there is nothing to tell yet.
func (l *life) becomeReady() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !isClosed(l.ready) {
		l.joined = l.failErr == nil
		close(l.ready)
	}
}

// fail notes a failure. The first one counts; Join returns it, unless it has joined before.
func (l *life) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failErr == nil {
		l.failErr = quote.Error(err)
		close(l.failed)
	}
}

func (l *life) mayHurry(hurry func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hurry = hurry
}

// hurries has an exit wait for nothing any more, if there is one.
func (l *life) hurries(why error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hurry != nil {
		l.hurry(why)
	}
	return l.hurry != nil
}

// failure returns why the membership has failed, if it has, and whether it had joined before.
func (l *life) failure() (why error, joined bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failErr, l.joined
}

func newMembership(c *Cluster, run *runner) *membership {
	name := c.cfg.registration().Cluster()
	m := &membership{
		c:        c,
		name:     name,
		reporter: newReporter(c.log.With(zap.String("cluster", name))),
		life: life{
			ready:   make(chan struct{}),
			failed:  make(chan struct{}),
			leaving: make(chan struct{}),
			done:    make(chan struct{}),
		},
	}
	m.notifier, m.pinger = newNotifier(m, run), newPinger(m)
	m.hook = newMemberHook(m)
	m.coverage = coverageLog{c: c, log: m.log}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

func (m *membership) start() {
	go m.notifier.notify()
	if m.hook != nil {
		go m.hook.run()
	}
	if m.leavesByItself() {
		go m.awaitExit()
	}
	go m.pinger.ping()
}

// awaitJoined waits until the first callback has returned, or says why it never will.
func (m *membership) awaitJoined(ctx context.Context) error {
	select {
	case <-m.ready:
	case <-m.failed:
	case <-m.leaving:
		return ErrLeft
	case <-ctx.Done():
		if trouble := m.trouble(); trouble != nil {
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), trouble)
		}
		return context.Cause(ctx)
	}
	if why, joined := m.failure(); !joined {
		return why
	}
	return nil
}

// awaitTurn waits until no earlier membership calls the application back any more, on whose
// callback Leave has given up. It reports false if this one has been left before. latest is
// where the cluster keeps what the next one has to wait for.
func (m *membership) awaitTurn(before <-chan struct{}, latest *<-chan struct{}, ended <-chan struct{}) bool {
	select {
	case <-before:
	case <-m.leaving:
		return false
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.left.Load() {
		return false
	}
	*latest = ended
	return true
}

// notJoined returns the error of a Join or Run that has never joined.
func (m *membership) notJoined(err error) error {
	return fmt.Errorf("libcluster: join %s: %w", m.name, err)
}

// leave tells the application, then removes the record, or leaves it to live for
// returning, then ends everything. A later leave waits for the first one.
func (m *membership) leave(ctx context.Context, returning time.Duration) error {
	first := false
	m.leaveOnce.Do(func() {
		first = true
		m.log.Debug("leaving", zap.Duration("returning within", returning))
		m.left.Store(true)
		close(m.leaving)
		m.c.changed.send()
	})
	if !first {
		select {
		case <-m.done:
			return m.leaveErr
		case <-ctx.Done():
		}
		if m.hurries(context.Cause(ctx)) {
			<-m.done
			return m.leaveErr
		}
		return fmt.Errorf("libcluster: still leaving: %w", context.Cause(ctx))
	}
	defer func() {
		m.c.mu.Lock()
		m.c.membership = nil
		m.c.mu.Unlock()
		m.c.changed.send()
		close(m.done)
	}()

	late, stop := shortlyAfter(ctx)
	defer stop()

	// The record stays and is renewed while the application winds down.
	stopDraining := m.drainIfSlow(returning)
	select {
	case <-m.notifier.ended:
	case <-ctx.Done():
		what := "a callback has not returned"
		if m.notifier.run != nil {
			what = "a callback has not returned, or a function given to Run"
		}
		m.leaveErr = fmt.Errorf("libcluster: left, but %s: %w", what, context.Cause(ctx))
	}
	stopDraining()
	m.cancel()
	if !m.awaitPing(ctx) {
		m.leaveErr = errors.Join(m.leaveErr, m.abandoned())
		go func() { // ends with that call, and with what it may still have opened
			<-m.pinger.ended
			m.pinger.discard(m.pinger.current.Load())
		}()
	} else if inc := m.pinger.current.Load(); inc != nil {
		m.leaveErr = errors.Join(m.leaveErr, m.awaitRemoved(ctx, late, inc.session, returning))
		m.pinger.in.Assigned(m.c.view.Load().state.inactive())
	}
	m.leaveErr = quote.Error(errors.Join(m.leaveErr, m.hook.await(ctx)))
	m.log.Debug("left the cluster", zap.Error(m.leaveErr))
	return m.leaveErr
}

// drainIfSlow has an instance that takes long to wind down give its partitions away one by one,
// as one that drains does. One function that is slow, or hangs, then holds up its own partition
// alone, and the others see for what they wait. For what is reserved nobody waits.
func (m *membership) drainIfSlow(returning time.Duration) (stop func() bool) {
	if m.c.cfg.Mode != ModeCooperative || m.c.cfg.Passive || returning > 0 {
		return func() bool { return false }
	}
	return time.AfterFunc(window(m.c.cfg.TTL)/slowDrainPart, func() {
		m.lingers.Store(true)
		if inc := m.pinger.current.Load(); inc != nil {
			inc.record.compare()
		}
	}).Stop
}

// awaitPing waits for ping to end until ctx does, and a little longer, since
// ping's own calls end only now. It reports whether ping has ended.
func (m *membership) awaitPing(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	select {
	case <-m.pinger.ended:
		return true
	case <-ctx.Done():
	}
	select {
	case <-m.pinger.ended:
		return true
	case <-time.After(releaseGrace):
		return false
	}
}

// abandoned says that a call of the registry goes on though its context has ended.
func (m *membership) abandoned() error {
	m.log.Error("a call of the registry has not returned")
	return errors.New("libcluster: left, but a call of the registry has not returned")
}

// shortlyAfter returns what is closed a little later than ctx ends, since the registry's calls
// end only then.
func shortlyAfter(ctx context.Context) (late <-chan struct{}, stop func() bool) {
	closed := make(chan struct{})
	return closed, context.AfterFunc(ctx, func() { time.AfterFunc(releaseGrace, func() { close(closed) }) })
}

// awaitRemoved removes the record. It waits for that until shortly after its time has passed, but
// not longer than until late.
func (m *membership) awaitRemoved(ctx context.Context, late <-chan struct{}, session Session, returning time.Duration) error {
	limit := leaveTimeout
	if deadline, ends := ctx.Deadline(); ends {
		limit = max(limit, time.Until(deadline)/2) // an overloaded registry may need it
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	over, stop := shortlyAfter(ctx)
	removed := make(chan error, 1)
	go func() {
		defer cancel()
		removed <- m.remove(ctx, session, returning)
		stop()
	}()
	select {
	case err := <-removed:
		return err
	case <-over:
	case <-late:
	}
	select {
	case err := <-removed:
		return err
	default:
		return m.abandoned()
	}
}

// remove ends a session and its record, or only the session if the assignment is to be
// reserved.
func (m *membership) remove(ctx context.Context, session Session, returning time.Duration) error {
	stopped := m.c.cfg.Mode.excludes() && !m.c.cfg.Passive && !m.notifier.acting.Load()
	d := Departure{Reserve: returning, Last: m.reserved(stopped), Stopped: stopped}
	if m.c.cfg.Mode == ModePlanned && !m.c.cfg.Passive && returning == 0 {
		d.Stopped = true // nobody waits, and the note tells the coordinator that this is no crash
	}
	if !m.c.cfg.Registry.Capabilities().Reserves {
		d.Reserve = 0
	}
	if planner, ok := session.(Planner); ok && stopped && returning == 0 {
		m.closePlan(ctx, planner)
	}
	err := session.Leave(ctx, d)
	if err != nil {
		m.c.stats.failed(RegistryLeave, err)
	}
	switch {
	case err != nil && d.Reserve > 0:
		return fmt.Errorf("libcluster: left, but the assignment may not be reserved: %w", err)
	case err != nil && d.Stopped:
		return fmt.Errorf("libcluster: left, but the others will wait for the record to expire: %w", err)
	case err != nil:
		return fmt.Errorf("libcluster: left, but the record stays until it expires: %w", err)
	case returning > d.Reserve:
		return ErrCannotReturn
	}
	return nil
}

// reserved is the record of an instance that has left for a restart: it keeps the
// assignment, and no instance is there.
func (m *membership) reserved(stopped bool) Member {
	last := m.registration().Member
	last.reserved = true
	if stopped {
		last.plans.window = 0 // nobody acts by this record
	}
	return last
}

// fail refuses the membership for good.
func (m *membership) fail(err error) {
	m.note(err)
	m.life.fail(err)
}

// refuse fails a Join that is still waiting. Once joined, the instance goes on, since the
// error may pass.
func (m *membership) refuse(err error) {
	if !isClosed(m.ready) {
		m.fail(err)
	}
}

// stopping reports whether nothing new should be started.
func (m *membership) stopping() bool { return m.left.Load() || m.ctx.Err() != nil }

// wake has the notifier look at the state, and what else waits for one. It never blocks.
func (m *membership) wake() {
	m.notifier.changed.set()
	m.c.changed.send()
}

func (m *membership) registration() Registration {
	r := m.c.cfg.registration()
	r.Member = m.c.own.desired().clone()
	r.Logger, r.chance, r.note, r.Members = m.c.log, m.c.chance, m.note, m.c.cfg.watchesMembers()
	if m.lingers.Load() {
		r.Member.plans.draining = true
	}
	if known := m.c.known.Load(); known != nil && m.c.cfg.Mode != ModeDirect {
		r.Member.plans.seen = known.generation
	}
	return r
}
