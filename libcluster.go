package libcluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/chance"
	"github.com/libcluster/libcluster/internal/outlet"
	"github.com/libcluster/libcluster/internal/quote"
)

// Cluster is this instance's connection to its cluster. All methods may be
// called by any goroutine at any time; after Leave, Join may be called again.
type Cluster struct {
	cfg Config
	log *zap.Logger

	view atomic.Pointer[view]
	// clock is now, but in tests.
	clock func() moment
	// chance is the instance's own source; nil, but in simulations.
	chance *chance.Source
	// changed is sent when the view or the phase may have changed.
	changed broadcast
	// known is the newest plan that any incarnation of this instance has seen.
	known atomic.Pointer[knownPlan]
	// covered is what the last look at the coverage has found.
	covered coverageSeen

	// restless has it logged once that the primary changes with newcomers.
	restless sync.Once

	stats *stats

	own ownRecord

	mu         sync.Mutex  // guards what follows
	membership *membership // nil unless joined or joining
	// calling is closed when the latest membership that may have called back does so no more.
	// If its callback hangs, the next one must not call back at the same time.
	calling <-chan struct{}
	// watching is the same for what [Config.OnMembers] is called by.
	watching <-chan struct{}
	running  bool // Run has not returned; it may outlive the membership
}

// New checks the configuration and returns a cluster that has not been joined.
// It does no I/O, except that it reads the certificates that an [EtcdConfig] names.
// The error is a [*ConfigError].
func New(cfg Config) (*Cluster, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		cfg:    cfg,
		log:    cfg.Logger.With(zap.String("instance", cfg.ID)),
		clock:  now,
		chance: chanceOf(cfg),
		stats:  newStats(),
		own:    ownRecord{wanted: cfg.registration().Member},
	}
	nobody := make(chan struct{})
	close(nobody)
	c.calling, c.watching = nobody, nobody
	c.view.Store(&view{state: State{Index: -1, Workers: cfg.Workers}, why: ErrLeft})
	return c, nil
}

func chanceOf(cfg Config) *chance.Source {
	if seeded, ok := cfg.Registry.(chance.Seeded); ok {
		return seeded.Chance(cfg.ID)
	}
	return nil
}

// String returns the instance and its cluster. It keeps the registry's password out of
// the output when a Cluster is printed.
func (c *Cluster) String() string {
	return fmt.Sprintf("instance %s of cluster %s", c.cfg.ID, c.cfg.registration().Cluster())
}

// GoString is String.
func (c *Cluster) GoString() string { return c.String() }

// ID returns this instance's ID, given or generated.
func (c *Cluster) ID() string { return c.cfg.ID }

// Mode returns the cluster's mode.
func (c *Cluster) Mode() Mode { return c.cfg.Mode }

// Config returns the configuration, with its defaults and the generated ID filled in. It is
// that of [New]: what SetWorkers and SetMetadata have changed since is not in it.
func (c *Cluster) Config() Config {
	cfg := c.cfg
	cfg.Metadata = maps.Clone(cfg.Metadata)
	return cfg
}

// State returns this instance's state as of now. It takes no lock, and it looks
// at the clock: an instance that may no longer act reads index -1, even if its
// process was paused until this moment.
func (c *Cluster) State() State { return c.view.Load().now() }

// Err returns why this instance has no assignment, as an error that [errors.Is]
// compares to the Err values of this package. It returns nil while the instance is
// active, or passive and joined. Before the first assignment, also while the first Join
// is still trying, the error is [ErrLeft], and also wraps the registry's latest error; in
// a mode with a plan it is [ErrWaiting] once the record is in the registry.
func (c *Cluster) Err() error {
	err := quote.Error(c.view.Load().reason())
	if !errors.Is(err, ErrLeft) {
		return err
	}
	c.mu.Lock()
	m := c.membership
	c.mu.Unlock()
	if m == nil || m.left.Load() {
		return err
	}
	if trouble := m.trouble(); trouble != nil {
		return fmt.Errorf("%w; last: %w", err, trouble)
	}
	return err
}

// Phase returns where this instance stands with its cluster.
func (c *Cluster) Phase() Phase {
	c.mu.Lock()
	m := c.membership
	c.mu.Unlock()
	if m == nil {
		return PhaseLeft
	}
	v := c.view.Load()
	switch {
	case m.left.Load():
		return PhaseLeaving
	case v.inc == nil || v.inc.membership != m:
		return PhaseJoining
	}
	switch fenced := v.inc.fenced(); {
	case errors.Is(fenced, ErrDrained):
		return PhaseWaiting
	case fenced != nil:
		return PhaseFenced
	case v.why != nil:
		return PhaseWaiting
	}
	return PhaseActive
}

// current returns the incarnation that is there or was there last, nil without a membership.
func (c *Cluster) current() *incarnation {
	c.mu.Lock()
	m := c.membership
	c.mu.Unlock()
	if m == nil {
		return nil
	}
	return m.pinger.current.Load()
}

// Blockers returns the instances that the cluster waits for before a plan can be
// committed: instances that have not stopped yet, or that have vanished and may not have
// stopped. As a rule there are none. All members know the blockers once the wait has
// lasted a second. An instance that has lost its own record does not know them; it can
// call [Cluster.Coverage]. Blockers returns 100 instances at most, and only in modes with
// a plan.
func (c *Cluster) Blockers() []Blocker { return c.view.Load().blockers() }

// Join joins the cluster. It returns after the first callback has returned. If it
// returns an error, nothing is left running and nothing is recorded. (Unless that
// callback hangs: then Join gives up on it soon after ctx has ended, as Leave does, and
// the record stays until its TTL has passed.)
//
// While the registry does not answer, Join keeps trying until ctx ends. An error that no
// retry can mend ends Join at once, such as a wrong password, or another instance that
// takes the ID over meanwhile ([ErrInstanceTaken]). After Join the cluster looks after
// itself until [Cluster.Leave]: ctx ends only the joining.
func (c *Cluster) Join(ctx context.Context) error {
	m, err := c.enter(nil)
	if err != nil {
		return err
	}
	if err = m.awaitJoined(ctx); err == nil {
		return nil
	}
	defer c.flushLog(context.WithoutCancel(ctx), releaseGrace)
	// What may have been recorded by now is removed, for which ctx may have
	// no time left.
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if leaveErr := m.leave(cleanup, 0); leaveErr != nil && !errors.Is(err, ErrLeft) {
		c.log.Warn("could not undo a failed join", zap.Error(leaveErr))
	}
	return m.notJoined(err)
}

// enter starts a membership, if there is none.
func (c *Cluster) enter(run *runner) (*membership, error) {
	m := newMembership(c, run)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.membership != nil || c.running {
		return nil, ErrJoined
	}
	m.notifier.before = c.calling
	if m.hook != nil {
		m.hook.before = c.watching
	}
	c.membership, c.running = m, run != nil
	m.start()
	c.changed.send() // the phase
	return m, nil
}

// Leave leaves the cluster: the callback gets index -1, and when it has returned the
// record is removed and the others notice at once. Until then the record is kept alive.
// Before Join, Leave does nothing. A second Leave waits for the first.
//
// Leave returns within 250 ms after ctx has ended, whatever else hangs. But it always has
// at least a second, so a context that a signal has already ended will do. The error then
// says what was not finished: a callback that has not returned, or a record that will stay
// until its TTL has passed. In either case the instance has left. A callback that has not
// returned goes on, and the last one, with index -1, comes after it. Another Leave does not wait
// for them, but what calls back after the next Join does.
func (c *Cluster) Leave(ctx context.Context, options ...LeaveOption) error {
	var how leaving
	for _, option := range options {
		option(&how)
	}
	if err := how.check(); err != nil {
		return err
	}
	c.mu.Lock()
	m := c.membership
	c.mu.Unlock()
	if m == nil {
		return nil
	}
	ctx, cancel := atLeast(ctx, leastLeave)
	defer cancel()
	defer c.flushLog(ctx, lastFlush)
	return m.leave(ctx, how.returning)
}

// lastFlush is how long the end of a membership waits for its last lines to be written.
const lastFlush = time.Second

// flushLog waits until what was logged is written, for so long at most, and not longer
// than ctx.
func (c *Cluster) flushLog(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	_ = outlet.Flush(ctx, c.log) // if not, it is written later, or the logger says why not
}

// LeaveOption changes how [Cluster.Leave] leaves. It is a [RunOption] too: Run leaves in
// this way when it ends, for whatever reason, unless Leave was called elsewhere before.
type LeaveOption func(*leaving)

func (o LeaveOption) toRun(r *runner) { o(&r.leaving) }

type leaving struct{ returning time.Duration }

func (l leaving) check() error {
	if l.returning < 0 || l.returning > maxTTL {
		return fmt.Errorf("libcluster: Returning(%v): must be 0 to %v", l.returning, maxTTL)
	}
	return nil
}

// Returning leaves for a restart: the assignment is reserved for d, up to 24 h, and no
// instance acts on it. If an instance with the same ID joins within d, it gets the
// assignment again, and no other instance is called back at all. If none joins, it is as
// if the instance had vanished at the end of d. If the registry cannot reserve an
// assignment, Leave returns [ErrCannotReturn].
func Returning(d time.Duration) LeaveOption {
	return func(l *leaving) { l.returning = d }
}

// newRetry returns the waits after failures of one thing.
func (c *Cluster) newRetry() retry { return retry{chance: c.chance} }
