package libcluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/quote"
)

// Cluster is this instance's connection to its cluster. All methods may be
// called by any goroutine at any time; after Leave, Join may be called again.
type Cluster struct {
	*instance

	// restless has it logged once that the primary changes with newcomers.
	restless sync.Once

	mu      sync.Mutex // guards what follows
	engine  *engine    // nil unless joined or joining
	running bool       // Run has not returned; it may outlive the membership
}

// New checks the configuration and returns a cluster that has not been joined.
// It does no I/O, except that it reads the certificates that an [EtcdConfig] names.
// The error is a [*ConfigError].
func New(cfg Config) (*Cluster, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Cluster{instance: newInstance(cfg)}, nil
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
	e := c.working()
	if e == nil || e.left.Load() {
		return err
	}
	if trouble := e.trouble(); trouble != nil {
		return fmt.Errorf("%w; last: %w", err, trouble)
	}
	return err
}

// Phase returns where this instance stands with its cluster.
func (c *Cluster) Phase() Phase {
	e := c.working()
	if e == nil {
		return PhaseLeft
	}
	v := c.view.Load()
	switch {
	case e.left.Load():
		return PhaseLeaving
	case v.inc == nil || v.inc.membership != e.membership:
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

// working returns what works for the membership, nil if there is none.
func (c *Cluster) working() *engine {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.engine
}

// current returns the incarnation that is there or was there last, nil without a membership.
func (c *Cluster) current() *incarnation {
	e := c.working()
	if e == nil {
		return nil
	}
	return e.pinger.current.Load()
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
	e, err := c.enter(nil)
	if err != nil {
		return err
	}
	if err = e.awaitJoined(ctx); err == nil {
		return nil
	}
	defer c.flushLog(context.WithoutCancel(ctx), releaseGrace)
	// What may have been recorded by now is removed, for which ctx may have
	// no time left.
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if leaveErr := e.leave(cleanup, 0); leaveErr != nil && !errors.Is(err, ErrLeft) {
		c.logger.Warn("could not undo a failed join", zap.Error(leaveErr))
	}
	return e.notJoined(err)
}

// enter starts a membership, if there is none.
func (c *Cluster) enter(run *runner) (*engine, error) {
	e := newEngine(c.instance, run, c.forget)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.engine != nil || c.running {
		return nil, ErrJoined
	}
	c.engine, c.running = e, run != nil
	e.start()
	c.changed.send() // the phase
	return e, nil
}

// forget notes that there is no membership any more.
func (c *Cluster) forget() {
	c.mu.Lock()
	c.engine = nil
	c.mu.Unlock()
	c.changed.send()
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
	e := c.working()
	if e == nil {
		return nil
	}
	ctx, cancel := atLeast(ctx, leastLeave)
	defer cancel()
	defer c.flushLog(ctx, lastFlush)
	return e.leave(ctx, how.returning)
}
