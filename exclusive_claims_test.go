package libcluster_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

func TestOneWhoMeetsAPlanFromBeforeRejoinsOnceAndMakesAnother(t *testing.T) {
	inBubble(t, func(b *bubble) {
		a := b.member("a")
		before := b.Plan(simulated)
		x := b.member("x")
		generation := a.State().Generation
		var joins atomic.Int32
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpJoin && joins.Add(1) > 100 {
				return errDown // or virtual time would stand still
			}
			return call.Send(ctx)
		})
		b.PutPlan(simulated, before)
		b.Depose(simulated)
		wait(time.Minute)
		require.LessOrEqual(t, joins.Load(), int32(2))
		require.True(t, a.State().Active())
		require.True(t, x.State().Active())
		require.Greater(t, a.State().Generation, generation)
	})
}

func TestNobodyIsWaitedForWhenTheAnswerToThatHasBeenLost(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var lost atomic.Bool
		released := make(chan struct{})
		a := b.member("a", func(c *libcluster.Config) {
			c.OnRebalance = func(s libcluster.State) {
				if !s.Active() {
					<-released
				}
			}
		})
		b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			err := call.Send(ctx)
			if call.Op == libclustertest.OpClaim && lost.CompareAndSwap(false, true) {
				close(released)
				return errReset
			}
			return err
		})
		x := b.member("x")
		wait(10 * time.Second)
		require.True(t, lost.Load())
		require.True(t, a.State().Active())
		require.True(t, x.State().Active())
		require.Empty(t, x.Waiting())
	})
}
