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
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
)

// hanging runs a function for each partition of an instance. The function may wait for the channel,
// which release closes; so does the end of the test.
func (l *ledger) hanging(
	id string, f func(ctx context.Context, p libcluster.Partition, released <-chan struct{}) error,
	change func(*libcluster.Config), options ...libcluster.RunOption,
) (c *libcluster.Cluster, end, release func()) {
	c = l.instance(id, cooperative(8, change))
	ctx, end := context.WithCancel(context.Background())
	done, released := make(chan error, 1), make(chan struct{})
	go func() {
		done <- c.RunPartitions(ctx, func(ctx context.Context, p libcluster.Partition) error { return f(ctx, p, released) }, options...)
	}()
	release = sync.OnceFunc(func() { close(released) })
	l.ends[id] = sync.OnceValue(func() error { end(); release(); return <-done })
	wait(time.Second)
	return c, end, release
}

// stubborn works for all partitions, and for one of them until it is released.
func (l *ledger) stubborn(id string, number int) func(context.Context, libcluster.Partition, <-chan struct{}) error {
	work := l.work(id)
	return func(ctx context.Context, p libcluster.Partition, released <-chan struct{}) error {
		if p.Number != number {
			return work(ctx, p)
		}
		late, end := context.WithCancel(context.WithoutCancel(ctx))
		go func() { <-released; <-ctx.Done(); end() }()
		return work(late, p)
	}
}

func unchanged(*libcluster.Config) {}

// One function does not return. Its partition is waited for, by name, and no other.
func TestOneThatLeavesGivesAwayEachPartitionThatHasStopped(t *testing.T) {
	inLedger(t, func(l *ledger) {
		_, end, release := l.hanging("a", l.stubborn("a", 0), unchanged)
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
		require.Len(l.T, l.Members(simulated), 1)
	})
}

// DrainTimeout counts while an instance leaves as at any other time.
func TestOneThatHangsWhileItLeavesIsGivenUp(t *testing.T) {
	inLedger(t, func(l *ledger) {
		var stuck atomic.Bool
		_, end, _ := l.hanging("a", func(ctx context.Context, _ libcluster.Partition, released <-chan struct{}) error {
			<-ctx.Done()
			if errors.Is(context.Cause(ctx), context.Canceled) { // and not since it moves
				<-released
			}
			return nil
		}, func(c *libcluster.Config) { c.OnStuck = func() { stuck.Store(true) } })
		b := l.member("b", cooperative(8))
		end()
		wait(2 * time.Minute)
		require.True(l.T, stuck.Load())
		require.Len(l.T, slices.Collect(b.State().Held()), 8)
		require.NoError(l.T, l.ends["a"]())
	})
}

// There is nobody else who would say for what it waits.
func TestOneThatHangsAloneWhileItLeavesSaysWithWhat(t *testing.T) {
	inLedger(t, func(l *ledger) {
		core, logs := observer.New(zapcore.WarnLevel)
		_, end, _ := l.hanging("a", l.stubborn("a", 3), func(c *libcluster.Config) { c.Logger = zap.New(core) })
		end()
		wait(time.Minute)
		lines := logs.FilterMessageSnippet("has not returned since its context ended").All()
		require.Len(l.T, lines, 1)
		require.Equal(l.T, "3", lines[0].ContextMap()["partitions"])
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
				finished := make(chan struct{})
				finish := sync.OnceFunc(func() { close(finished) })
				defer finish()
				c, end, _ := l.hanging("a", l.stubborn("a", -1), unchanged, libcluster.WithPrimary(func(ctx context.Context, _ libcluster.State) error {
					<-ctx.Done()
					<-finished
					return nil
				}))
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
