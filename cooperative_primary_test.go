package libcluster_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// The primary is the instance that holds partition 0, and so there are never two.
func TestThePrimaryIsTheHolderOfPartitionNought(t *testing.T) {
	inLedger(t, func(l *ledger) {
		a := l.runs("a", 4)
		b := l.runs("b", 4)
		require.True(l.T, a.State().Primary())
		require.False(l.T, b.State().Primary())
		primary, known := b.Primary()
		require.True(l.T, known)
		require.Equal(l.T, "a", primary.ID)
		require.NoError(l.T, l.ends["a"]())
		wait(time.Second)
		require.True(l.T, b.State().Primary())
	})
}

func TestAPrimaryHasItsTaskBesideItsPartitions(t *testing.T) {
	inLedger(t, func(l *ledger) {
		var leads atomic.Value
		runs := func(id string) {
			c := l.instance(id, cooperative(4))
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			lead := libcluster.WithPrimary(func(ctx context.Context, s libcluster.State) error {
				require.True(l.T, s.Primary())
				leads.Store(id)
				<-ctx.Done()
				return nil
			})
			go func() { done <- c.RunPartitions(ctx, l.work(id), lead) }()
			l.ends[id] = sync.OnceValue(func() error { cancel(); return <-done })
			wait(time.Second)
		}
		runs("a")
		runs("b")
		require.Equal(l.T, "a", leads.Load())
		require.Equal(l.T, map[string]int{"a": 2, "b": 2}, l.held())
		require.NoError(l.T, l.ends["a"]())
		wait(time.Second)
		require.Equal(l.T, "b", leads.Load())
		require.Equal(l.T, map[string]int{"b": 4}, l.held())
	})
}

// While a callback runs, partition 0 is to be released, and then stays with this instance, which
// learns of both at once. A coordinator that is told that it was released must find that so.
func TestATaskOfThePrimaryEndsWhenPartitionNoughtIsGrantedAnew(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var slow, runs atomic.Bool
		var tokens []int64
		a := b.instance("a", cooperative(4, func(c *libcluster.Config) {
			c.OnRebalance = func(libcluster.State) {
				if slow.Swap(false) {
					time.Sleep(3 * time.Second)
				}
			}
			c.OnPrimary = func(bool) { require.False(b.T, runs.Load(), "beside the task") }
		}))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			done <- a.RunPrimary(ctx, func(ctx context.Context, s libcluster.State) error {
				for p := range s.Held() {
					tokens = append(tokens, p.Token)
					break
				}
				runs.Store(true)
				<-ctx.Done()
				runs.Store(false)
				return nil
			})
		}()
		b.ends = func() { cancel(); require.NoError(b.T, <-done) }
		wait(time.Second)
		slow.Store(true)
		other := b.instance("b", cooperative(4))
		go func() { _ = other.Join(ctx) }()
		wait(time.Second)
		require.False(b.T, slow.Load(), "the callback runs")
		require.NoError(b.T, a.SetDraining(ctx, true))
		wait(time.Second)
		require.NoError(b.T, a.SetDraining(ctx, false))
		wait(time.Minute)
		require.True(b.T, a.State().Primary())
		require.True(b.T, runs.Load())
		require.Len(b.T, tokens, 2)
		require.Greater(b.T, tokens[1], tokens[0])
	})
}

func TestNobodyIsThePrimaryWhileThereIsNoPlan(t *testing.T) {
	inBubble(t, func(b *bubble) {
		front := b.instance("front", cooperative(8, func(c *libcluster.Config) { c.Passive = true }))
		nobody := func() {
			_, known := front.Primary()
			require.False(b.T, known)
			_, known = front.OwnerOf("key")
			require.False(b.T, known)
		}
		nobody()
		require.NoError(b.T, front.Join(context.Background()))
		nobody()
		require.NoError(b.T, b.instance("a", cooperative(8)).Join(context.Background()))
		wait(time.Second)
		p, known := front.Primary()
		require.True(b.T, known)
		require.Equal(b.T, "a", p.ID)
	})
}
