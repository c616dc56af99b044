package libcluster

import (
	"context"
	"maps"
	"slices"

	"go.uber.org/zap"
)

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
