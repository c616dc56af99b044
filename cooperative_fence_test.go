package libcluster_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/libclustertest"
)

// flush is the last write of an instance for one partition.
type flush struct {
	libcluster.Partition
	fence  kv.Fence
	err    error
	stands bool // at once
	held   bool // by the state
}

// flushes are all of one instance.
type flushes struct {
	*ledger
	c   *libcluster.Cluster
	mu  sync.Mutex
	all []flush
}

func (f *flushes) flush(ps ...libcluster.Partition) {
	for _, p := range ps {
		fence, err := f.c.PartitionFence(p)
		f.mu.Lock()
		f.all = append(f.all, flush{p, fence, err, f.Stands(fence), f.c.State().Holds(p.Number)})
		f.mu.Unlock()
	}
}

// flushed returns what was written since it was called last.
func (f *flushes) flushed() (lately []flush) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lately, f.all = f.all, nil
	return lately
}

// requireFlushed wants so many to have been let through, and to be no more.
func (f *flushes) requireFlushed(many int, now error) {
	all := f.flushed()
	require.Len(f.T, all, many)
	for _, one := range all {
		require.NoError(f.T, one.err, "%v", one.Partition)
		require.True(f.T, one.stands)
		require.False(f.T, one.held)
		require.False(f.T, f.Stands(one.fence), "%v has gone", one.Partition)
		_, err := f.c.PartitionFence(one.Partition)
		require.ErrorIs(f.T, err, now)
	}
}

// runsFlushing starts an instance that writes last when a function stops, which takes that long.
func (l *ledger) runsFlushing(id string, partitions int, slow func(libcluster.Partition) time.Duration) *flushes {
	f := &flushes{ledger: l, c: l.instance(id, cooperative(partitions))}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- f.c.RunPartitions(ctx, func(ctx context.Context, p libcluster.Partition) error {
			<-ctx.Done()
			time.Sleep(slow(p))
			f.flush(p)
			return nil
		})
	}()
	l.ends[id] = sync.OnceValue(func() error { cancel(); return <-done })
	wait(time.Second)
	return f
}

func (l *ledger) drains(c *libcluster.Cluster, drain bool) {
	require.NoError(l.T, c.SetDraining(context.Background(), drain))
	wait(time.Second)
}

func TestWhatIsRevokedHasAFenceUntilTheCallbackReturns(t *testing.T) {
	inLedger(t, func(l *ledger) {
		f := &flushes{ledger: l}
		f.c = l.instance("a", cooperative(4, func(c *libcluster.Config) {
			c.OnRevoked = func(ps []libcluster.Partition) { f.flush(ps...) }
		}))
		l.joins(f.c)
		l.member("b", cooperative(4))
		wait(time.Second)
		f.requireFlushed(2, libcluster.ErrRebalanced)
		l.drains(f.c, true)
		f.requireFlushed(2, libcluster.ErrWaiting)
		l.drains(f.c, false)
		require.Empty(l.T, f.flushed())
		require.NoError(l.T, f.c.Leave(context.Background()))
		f.requireFlushed(2, libcluster.ErrLeft)
	})
}

func TestAFunctionThatStopsHasAFenceUntilItReturns(t *testing.T) {
	inLedger(t, func(l *ledger) {
		// Shorter than what counts as slow: a partial acknowledgement would end a fence that was taken before.
		const slow = 400 * time.Millisecond
		f := l.runsFlushing("a", 4, func(libcluster.Partition) time.Duration { return slow })
		l.runs("b", 4)
		f.requireFlushed(2, libcluster.ErrRebalanced)
		l.drains(f.c, true)
		f.requireFlushed(2, libcluster.ErrWaiting)
		l.drains(f.c, false)
		require.NoError(l.T, l.ends["a"]())
		f.requireFlushed(2, libcluster.ErrLeft)
	})
}

// An acknowledgement may name what has not stopped yet. What has stopped is another instance's
// from then on, and what has not is still this one's.
func TestOfWhatAPlanTakesOnlyThatHasAFenceWhichHasNotStopped(t *testing.T) {
	inLedger(t, func(l *ledger) {
		f := l.runsFlushing("a", 4, func(p libcluster.Partition) time.Duration {
			if p.Number == 3 {
				return 30 * time.Second
			}
			return 0
		})
		held := map[int]libcluster.Partition{}
		for p := range f.c.State().Held() {
			held[p.Number] = p
		}
		l.runs("b", 4)
		wait(10 * time.Second)
		require.Len(l.T, l.held(), 1, "b has got one of its two")
		for number, want := range []error{nil, nil, libcluster.ErrRebalanced, nil} {
			fence, err := f.c.PartitionFence(held[number])
			require.ErrorIs(l.T, err, want, "partition %d", number)
			require.Equal(l.T, want == nil, l.Stands(fence), "partition %d", number)
		}
		forged := held[3]
		forged.Token++
		_, err := f.c.PartitionFence(forged)
		require.ErrorIs(l.T, err, libcluster.ErrRebalanced)
		wait(time.Minute)
		f.requireFlushed(2, libcluster.ErrRebalanced)
	})
}

// From when the application has stopped, the note may say so at any moment.
func TestThereIsNoFenceWhileAReleaseIsBeingAcknowledged(t *testing.T) {
	inLedger(t, func(l *ledger) {
		f := l.runsFlushing("a", 4, func(libcluster.Partition) time.Duration { return 0 })
		arrives := make(chan struct{})
		defer close(arrives)
		l.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op != libclustertest.OpAcknowledge {
				return call.Send(ctx)
			}
			err := call.Send(ctx)
			<-arrives // the answer
			return err
		})
		l.begins("b", 4)
		wait(time.Second)
		all := f.flushed()
		require.Len(l.T, all, 2)
		for _, one := range all {
			require.NoError(l.T, one.err)
			require.True(l.T, one.stands)
			require.False(l.T, l.Stands(one.fence))
			_, err := f.c.PartitionFence(one.Partition)
			require.ErrorIs(l.T, err, libcluster.ErrRebalanced)
		}
	})
}

// An incarnation that was fenced has none, and its successor none for what it had.
func TestWhatWasLostHasNoFence(t *testing.T) {
	inLedger(t, func(l *ledger) {
		f := l.runsFlushing("a", 4, func(libcluster.Partition) time.Duration { return 0 })
		l.runs("b", 4)
		f.requireFlushed(2, libcluster.ErrRebalanced)
		l.Cut("a")
		wait(time.Minute)
		lost := f.flushed()
		require.Len(l.T, lost, 2)
		l.Heal("a")
		wait(30 * time.Second)
		for _, one := range lost {
			require.ErrorIs(l.T, one.err, libcluster.ErrDeadlinePassed)
			_, err := f.c.PartitionFence(one.Partition)
			require.ErrorIs(l.T, err, libcluster.ErrRebalanced)
		}
	})
}

func TestWhatIsGrantedAnewHasAFenceByItsNewTokenOnly(t *testing.T) {
	inLedger(t, func(l *ledger) {
		a := l.runs("a", 2)
		before, held := a.State().Partition(1)
		require.True(l.T, held)
		l.runs("b", 2)
		require.NoError(l.T, l.ends["b"]())
		wait(time.Second)
		now, held := a.State().Partition(1)
		require.True(l.T, held)
		require.Greater(l.T, now.Token, before.Token)
		_, err := a.PartitionFence(before)
		require.ErrorIs(l.T, err, libcluster.ErrRebalanced)
		fence, err := a.PartitionFence(now)
		require.NoError(l.T, err)
		require.True(l.T, l.Stands(fence))
	})
}

// A plan that gives back what another one has just taken finds the function winding down.
func TestWhatIsGrantedAnewBeforeItHasStoppedHasAFenceUntilItHas(t *testing.T) {
	inLedger(t, func(l *ledger) {
		f := l.runsFlushing("a", 4, func(libcluster.Partition) time.Duration { return 10 * time.Second })
		l.begins("b", 4)
		wait(time.Second)
		l.drains(f.c, true)
		l.drains(f.c, false)
		wait(time.Minute)
		all := f.flushed()
		require.NotEmpty(l.T, all)
		again := 0
		for _, one := range all {
			require.NoError(l.T, one.err, "%v", one.Partition)
			if f.c.State().Holds(one.Number) {
				again++
			}
		}
		require.NotZero(l.T, again)
	})
}

// keptFence is a fence that an app of a simulation has had for a partition.
type keptFence struct {
	libcluster.Partition
	kv.Fence
	of *app
}

// fenced keeps a fence of a partition on which it acts, or begins to stop to act.
func (a *app) fenced(p libcluster.Partition) {
	if fence, err := a.PartitionFence(p); err == nil {
		f := keptFence{p, fence, a}
		if _, had := a.w.fences[f]; !had {
			a.w.fences[f] = 0
		}
		if !a.State().Holds(p.Number) {
			a.w.Happened("fence for what is being stopped")
		}
	}
}

// checkFences wants no write to be let through for a partition that a later plan has given to
// another incarnation. An app asks for another fence when one does not stand any more.
func (w *world) checkFences() {
	asked := map[kv.Fence]bool{}
	stands := func(f kv.Fence) bool {
		stands, known := asked[f]
		if !known {
			stands = w.Stands(f)
			asked[f] = stands
		}
		return stands
	}
	kept := map[keptFence]int{}
	for f, checked := range w.fences {
		if !stands(f.Fence) {
			var err error
			if f.Fence, err = f.of.PartitionFence(f.Partition); err != nil || !stands(f.Fence) {
				continue
			}
			checked = 0
		}
		kept[f] = max(kept[f], checked)
	}
	w.fences = kept
	for f, checked := range kept {
		if checked == len(w.plans) {
			continue
		}
		kept[f] = len(w.plans)
		owner := strconv.FormatInt(int64(f.Owner), 16)
		for generation, plan := range w.plans {
			if generation <= f.Token {
				continue
			}
			for of, place := range plan.Keeps {
				if of != owner && place.Holds(f.Number) {
					w.Fail("a write of %s for %v would be let through: plan %d keeps that for %s", f.of, f.Partition, generation, of)
				}
			}
		}
	}
}
