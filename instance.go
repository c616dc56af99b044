package libcluster

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/chance"
	"github.com/libcluster/libcluster/internal/outlet"
)

// instance is what all memberships of a Cluster share, one after another. All of it may be
// read by any goroutine.
type instance struct {
	cfg    Config
	logger *zap.Logger

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

	stats *stats

	own ownRecord

	calling  relay // of the goroutines that call the application back
	watching relay // of those that call [Config.OnMembers] and [Config.Superseded]
}

func newInstance(cfg Config) *instance {
	i := &instance{
		cfg:    cfg,
		logger: cfg.Logger.With(zap.String("instance", cfg.ID)),
		clock:  now,
		chance: chanceOf(cfg),
		stats:  newStats(),
		own:    ownRecord{wanted: cfg.registration().Member},
	}
	i.view.Store(&view{state: State{Index: -1, Workers: cfg.Workers}, why: ErrLeft})
	return i
}

func chanceOf(cfg Config) *chance.Source {
	if seeded, ok := cfg.Registry.(chance.Seeded); ok {
		return seeded.Chance(cfg.ID)
	}
	return nil
}

// newRetry returns the waits after failures of one thing.
func (i *instance) newRetry() retry { return retry{chance: i.chance} }

// lastFlush is how long the end of a membership waits for its last lines to be written.
const lastFlush = time.Second

// flushLog waits until what was logged is written, for so long at most, and not longer
// than ctx.
func (i *instance) flushLog(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	_ = outlet.Flush(ctx, i.logger) // if not, it is written later, or the logger says why not
}

// learn notes a plan, unless it is older than one that is known.
func (i *instance) learn(p *knownPlan) {
	for {
		known := i.known.Load()
		if known != nil && p.generation < known.generation || i.known.CompareAndSwap(known, p) {
			return
		}
	}
}

// saw notes what a look at the coverage has found, and returns since when that has been so.
func (i *instance) saw(covered bool) time.Time {
	v := i.view.Load()
	return i.covered.saw(covered, v.state.Generation, v.since, i.cfg.TTL)
}

// isStatic reports whether assignments never change.
func (i *instance) isStatic() bool { return !i.cfg.Registry.Capabilities().Members }
