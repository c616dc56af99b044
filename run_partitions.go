package libcluster

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"
)

// RunPartitions is [Cluster.Run] in mode [ModeCooperative]: f runs once for each partition that
// this instance holds, at the same time, each in a goroutine of its own. It runs from when the
// partition is granted until it moves. Then the context of this one function ends, and when
// it has returned the partition is released, so that the next instance begins. The functions
// of all other partitions go on, and notice nothing.
//
// [context.Cause] says why a context has ended, as with Run: [ErrRebalanced] means that the
// partition moves. One function that is slow to return holds up its own partition only, also
// when the instance leaves, and so does the function of [WithPrimary] with partition 0; see
// [Config.DrainTimeout] for one that does not return at all. An instance that leaves to come back
// ([Returning]) gives nothing away, and each partition waits for all its functions.
//
// f never runs twice for one partition at the same time, in this instance or in any other.
// p.Token is the fencing token of this run.
//
// If f returns an error before its context has ended, RunPartitions ends with it, unless
// [Restart] says otherwise. Unlike with Run, a nil does not end RunPartitions: the work of that
// partition is done, and f runs for it again when this instance gets it anew. This is
// logged at Warn.
//
// For all else what is said of Run counts. [Config.OnRebalance] is not needed: it gets a state
// when partitions have been granted or revoked, and does not wait for f. In another mode
// RunPartitions returns an error at once.
func (c *Cluster) RunPartitions(ctx context.Context, f func(ctx context.Context, p Partition) error, options ...RunOption) error {
	if c.cfg.Mode != ModeCooperative {
		return fmt.Errorf("libcluster: RunPartitions: mode %v has no partitions; set Config.Mode to ModeCooperative", c.cfg.Mode)
	}
	return c.run(&runner{ctx: ctx, partitions: &partitionRunner{f: f}}, options)
}

// partitionRunner runs a function for each partition. The notifier uses it.
type partitionRunner struct {
	f func(context.Context, Partition) error
	// term is of the incarnation for which functions have begun; nil: there is none. It runs
	// nothing itself: the functions' contexts descend from its context.
	term *turn
	// turns are those that have begun, by the partition's number. One that has returned
	// stays for as long as the partition is held.
	turns map[int]*partitionTurn
}

type partitionTurn struct {
	*turn
	token int64
}

// stopOver ends the contexts of what runs and is not allowed by this state of this view, and
// waits for nothing.
func (r *partitionRunner) stopOver(v *view, state State) {
	for _, n := range r.numbers() {
		t := r.turns[n]
		if token, held := state.held.token(n); held && token == t.token && v.inc == t.inc {
			continue
		}
		t.cancel(t.why())
		if isClosed(t.done) {
			delete(r.turns, n)
		}
	}
	if r.term != nil && len(r.turns) == 0 && (v.inc != r.term.inc || !state.Active()) {
		close(r.term.done)
		r.term.watching.Wait()
		r.term.cancel(nil)
		r.term = nil
	}
}

// numbers returns those of the partitions whose functions have begun, in order.
func (r *partitionRunner) numbers() []int { return slices.Sorted(maps.Keys(r.turns)) }

// begin runs the function for what has been told and does not run.
func (r *partitionRunner) begin(of *runner, v *view, told State) {
	if r.term != nil && r.term.inc != v.inc {
		return // what runs for another incarnation has to end first
	}
	for p := range told.Held() {
		if r.turns[p.Number] != nil {
			continue
		}
		if !v.now().Active() {
			return // telling it has taken too long
		}
		if r.term == nil {
			r.term = &turn{run: of, inc: v.inc, told: told, done: make(chan struct{})}
			r.term.ctx, r.term.cancel = context.WithCancelCause(context.WithValue(of.of.ctx, timeLeftKey{}, v.inc))
			r.term.watching.Go(r.term.watch)
			r.turns = make(map[int]*partitionTurn)
		}
		t := &turn{run: of, inc: v.inc, told: told, done: make(chan struct{}), running: 1}
		t.ctx, t.cancel = context.WithCancelCause(r.term.ctx)
		r.turns[p.Number] = &partitionTurn{t, p.Token}
		go t.do(func(ctx context.Context) error {
			err := r.f(ctx, p)
			if err == nil && ctx.Err() == nil {
				t.inc.report(zap.WarnLevel, "the function of a partition has returned; the partition is idle until it moves",
					zap.Int("partition", p.Number))
			}
			return err
		})
	}
}

// running returns the partitions whose functions have not returned.
func (r *partitionRunner) running() (set partitionSet) {
	for _, n := range r.numbers() {
		if !isClosed(r.turns[n].done) {
			set = set.grow(span{n, n + 1})
		}
	}
	return set
}
