package libcluster_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// stubborn runs an instance whose function of one partition goes on until it is released,
// beside a task of the primary, if there is any.
func (l *ledger) stubborn(id string, partitions, number int, options ...libcluster.RunOption) (c *libcluster.Cluster, end, release func()) {
	c = l.instance(id, cooperative(partitions))
	ctx, cancel := context.WithCancel(context.Background())
	done, released := make(chan error, 1), make(chan struct{})
	work := l.work(id)
	go func() {
		done <- c.RunPartitions(ctx, func(ctx context.Context, p libcluster.Partition) error {
			if p.Number != number {
				return work(ctx, p)
			}
			late, end := context.WithCancel(context.WithoutCancel(ctx))
			go func() { <-released; <-ctx.Done(); end() }()
			return work(late, p)
		}, options...)
	}()
	release = sync.OnceFunc(func() { close(released) })
	l.ends[id] = sync.OnceValue(func() error { cancel(); release(); return <-done })
	wait(time.Second)
	return c, cancel, release
}

// One function does not return. Its partition is waited for, by name, and no other.
func TestOneThatLeavesGivesAwayEachPartitionThatHasStopped(t *testing.T) {
	inLedger(t, func(l *ledger) {
		_, end, release := l.stubborn("a", 8, 0)
		b := l.runs("b", 8)
		require.Equal(l.T, map[string]int{"a": 4, "b": 4}, l.held())
		end()
		wait(5 * time.Second)
		require.Equal(l.T, map[string]int{"a": 1, "b": 7}, l.held())
		wait(20 * time.Second)
		blockers := b.Blockers()
		require.Len(l.T, blockers, 1)
		require.Equal(l.T, "a", blockers[0].ID)
		require.Equal(l.T, []int{0}, blockers[0].Partitions)
		coverage, err := b.Coverage(context.Background())
		require.NoError(l.T, err)
		require.False(l.T, coverage.Covered)
		release()
		wait(time.Second)
		require.Equal(l.T, map[string]int{"b": 8}, l.held())
		require.Empty(l.T, b.Blockers())
		require.Equal(l.T, 1, len(l.Members(simulated)))
	})
}

// DrainTimeout counts while an instance leaves as at any other time.
func TestOneThatHangsWhileItLeavesIsGivenUp(t *testing.T) {
	inLedger(t, func(l *ledger) {
		var stuck atomic.Bool
		a := l.instance("a", cooperative(8, func(c *libcluster.Config) { c.OnStuck = func() { stuck.Store(true) } }))
		ctx, end := context.WithCancel(context.Background())
		done, released := make(chan error, 1), make(chan struct{})
		go func() {
			done <- a.RunPartitions(ctx, func(ctx context.Context, _ libcluster.Partition) error {
				<-ctx.Done()
				if errors.Is(context.Cause(ctx), context.Canceled) { // and not since it moves
					<-released
				}
				return nil
			})
		}()
		release := sync.OnceFunc(func() { close(released) })
		l.ends["a"] = sync.OnceValue(func() error { end(); release(); return <-done })
		wait(time.Second)
		b := l.member("b", cooperative(8))
		end()
		wait(2 * time.Minute)
		require.True(l.T, stuck.Load())
		require.Len(l.T, slices.Collect(b.State().Held()), 8)
		release()
		require.NoError(l.T, l.ends["a"]())
	})
}

// All partitions but 0 have stopped, and so they move.
func TestTaskOfThePrimaryHoldsUpItsPartitionAlone(t *testing.T) {
	for what, stop := range map[string]func(*libcluster.Cluster, func()){
		"drained": func(c *libcluster.Cluster, _ func()) { _ = c.SetDraining(context.Background(), true) },
		"leaving": func(_ *libcluster.Cluster, end func()) { end() },
	} {
		t.Run(what, func(t *testing.T) {
			inLedger(t, func(l *ledger) {
				released := make(chan struct{})
				finish := sync.OnceFunc(func() { close(released) })
				defer finish()
				c, end, release := l.stubborn("a", 8, -1, libcluster.WithPrimary(func(ctx context.Context, _ libcluster.State) error {
					<-ctx.Done()
					<-released
					return nil
				}))
				release()
				l.runs("b", 8)
				stop(c, end)
				wait(20 * time.Second)
				require.Equal(l.T, map[string]int{"b": 7}, l.held())
				finish()
				wait(time.Second)
				require.Equal(l.T, map[string]int{"b": 8}, l.held())
			})
		})
	}
}
