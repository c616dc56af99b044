package simulation

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/simulator"
	"github.com/libcluster/libcluster/libclustertest"
)

// callbacks counts those of one instance, and those that ran at the same time.
type callbacks struct{ running, overlaps, calls atomic.Int64 }

func (c *callbacks) onRebalance(libcluster.State) {
	if c.running.Add(1) > 1 {
		c.overlaps.Add(1)
	}
	c.calls.Add(1)
	c.running.Add(-1)
}

// startStop calls every method of one instance from many goroutines at once, with
// contexts that end at any time, and then wants it to work as if nothing had been.
func startStop(t *testing.T, cfg libcluster.Config) {
	t.Helper()
	const callers, calls = 8, 60
	var told callbacks
	cfg.Key, cfg.Workers, cfg.OnRebalance = "mailer", 1, told.onRebalance
	c, err := libcluster.New(cfg)
	require.NoError(t, err)
	require.NoError(t, c.Leave(t.Context()), "leaving before joining does nothing")

	methods := []func(context.Context){
		func(ctx context.Context) { _ = c.Join(ctx) },
		func(ctx context.Context) { _ = c.Leave(ctx) },
		func(ctx context.Context) { _ = c.Leave(ctx, libcluster.Returning(time.Second)) },
		func(ctx context.Context) { _ = c.SetWorkers(ctx, 1+rand.IntN(3)) },
		func(context.Context) { _, _ = c.State(), c.Err() },
		func(context.Context) { _, _ = c.Members(), c.Phase() },
	}
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for range calls {
				ctx, cancel := context.WithTimeout(t.Context(), rand.N(20*time.Millisecond))
				methods[rand.IntN(len(methods))](ctx)
				cancel()
			}
		})
	}
	group.Wait()
	require.Zero(t, told.overlaps.Load(), "callbacks at the same time")

	require.NoError(t, c.Leave(t.Context()))
	require.NoError(t, c.Leave(t.Context()), "leaving twice")
	require.Equal(t, libcluster.PhaseLeft, c.Phase())
	require.False(t, c.State().Active())
	require.NoError(t, c.SetWorkers(t.Context(), 1))
	require.NoError(t, c.Join(t.Context()))
	require.ErrorIs(t, c.Join(t.Context()), libcluster.ErrJoined)
	require.Equal(t, libcluster.PhaseActive, c.Phase())
	require.True(t, c.State().Active())
	require.Positive(t, told.calls.Load())
	require.NoError(t, c.Leave(t.Context()))
}

// startStopRounds is how often: each round is a race of its own.
const startStopRounds = 10

func TestEverythingMayBeCalledAtOnceOnTheRegistryInMemory(t *testing.T) {
	for range startStopRounds {
		registry := libclustertest.New()
		startStop(t, libcluster.Config{ID: "a", Registry: registry})
		require.Empty(t, registry.Members(cluster), "a record is left")
	}
}

func TestEverythingMayBeCalledAtOnceOnARegistryThatFails(t *testing.T) {
	t.Parallel()
	for range startStopRounds {
		registry := libclustertest.New()
		registry.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			switch rand.IntN(6) {
			case 0:
				return simulator.ErrDown
			case 1:
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return call.Send(ctx)
		})
		var told callbacks
		c, err := libcluster.New(libcluster.Config{Key: "mailer", ID: "b", Registry: registry, OnRebalance: told.onRebalance})
		require.NoError(t, err)
		var group sync.WaitGroup
		for range 6 {
			group.Go(func() {
				for range 10 {
					ctx, cancel := context.WithTimeout(t.Context(), rand.N(20*time.Millisecond))
					_ = c.Join(ctx)
					_ = c.SetWorkers(ctx, 1+rand.IntN(3))
					_ = c.Leave(ctx)
					cancel()
				}
			})
		}
		group.Wait()
		registry.Intercept(nil)
		_ = c.Leave(t.Context())
		require.NoError(t, c.Join(t.Context()), "after joins that have failed")
		require.True(t, c.State().Active())
		require.NoError(t, c.Leave(t.Context()))
		require.Zero(t, told.overlaps.Load())
	}
}

func TestEverythingMayBeCalledAtOnceOnStatic(t *testing.T) {
	for range startStopRounds {
		startStop(t, libcluster.Config{Registry: libcluster.Static(2, 8)})
	}
}
