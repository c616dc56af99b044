package libcluster_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

func reclaim(after time.Duration) func(*libcluster.Config) {
	return func(c *libcluster.Config) { c.ReclaimAfter = after }
}

func TestIDThatIsFreeForLongIsReclaimed(t *testing.T) {
	for _, m := range rangeModes {
		inMemory(t, func(t *memory) {
			older := t.join("a", mode(m), reclaim(4*time.Minute))
			newer := t.join("a", mode(m), workers(2))
			wait(time.Hour)
			require.ErrorIs(t, older.Err(), libcluster.ErrInstanceTaken)
			require.Equal(t, libcluster.PhaseFenced, older.Phase())
			require.Equal(t, "0/2", newer.place())
			require.NoError(t, older.SetWorkers(t.Context(), 3))
			require.NoError(t, newer.Leave(t.Context()))
			wait(4*time.Minute - time.Second)
			require.Empty(t, t.Members(cluster), "not yet")
			wait(2 * time.Minute)
			require.NoError(t, older.Err())
			require.Equal(t, "0/3", older.place())
		})
	}
}

// A supervisor that starts the successor anew leaves the ID free for a moment.
func TestIDThatIsFreeForAMomentIsNotReclaimed(t *testing.T) {
	inMemory(t, func(t *memory) {
		older := t.join("a", reclaim(time.Minute))
		newer := t.join("a")
		for range 20 {
			require.NoError(t, newer.Leave(t.Context()))
			wait(50 * time.Second)
			require.NoError(t, newer.Join(t.Context()))
			wait(time.Minute)
		}
		require.ErrorIs(t, older.Err(), libcluster.ErrInstanceTaken)
		require.Equal(t, "0/1 -1/0", older.story())
	})
}

// Whether an ID is free is not known while the registry does not answer.
func TestIDIsNotReclaimedUnseen(t *testing.T) {
	inMemory(t, func(t *memory) {
		older := t.join("a", reclaim(time.Minute))
		t.join("a")
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			switch call.Op {
			case libclustertest.OpLook:
				return errors.New("not now")
			case libclustertest.OpJoin:
				t.Error("asked to join")
			}
			return call.Send(ctx)
		})
		wait(time.Hour)
		require.ErrorIs(t, older.Err(), libcluster.ErrInstanceTaken)
	})
}

func TestRunGoesOnWithAReclaimedID(t *testing.T) {
	inMemory(t, func(t *memory) {
		var causes []error
		a := t.app("a", reclaim(time.Minute))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- a.Run(ctx, func(ctx context.Context, _ libcluster.State) error {
				<-ctx.Done()
				causes = append(causes, context.Cause(ctx))
				return nil
			})
		}()
		synctest.Wait()
		t.Steal(cluster, "a") // under a lease that nobody renews
		wait(10 * time.Minute)
		require.NoError(t, a.Err())
		require.True(t, a.State().Active())
		cancel()
		require.NoError(t, <-ended)
		require.Len(t, causes, 2)
		require.ErrorIs(t, causes[0], libcluster.ErrInstanceTaken)
		require.ErrorIs(t, causes[1], context.Canceled)
	})
}

// It has been refused by a cluster of another mode, and left the registry, when its ID is
// taken.
func TestIDIsReclaimedAfterAnotherModeHasGone(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a", reclaim(time.Minute))
		t.Cut("a")
		wait(time.Minute)
		b := t.join("b", mode(libcluster.ModePlanned))
		t.Heal("a")
		wait(3 * time.Second)
		require.ErrorAs(t, a.Err(), new(*libcluster.ModeError))
		other := t.join("a", mode(libcluster.ModePlanned))
		wait(time.Minute)
		require.ErrorIs(t, a.Err(), libcluster.ErrInstanceTaken)
		require.NoError(t, other.Leave(t.Context()))
		require.NoError(t, b.Leave(t.Context()))
		wait(5 * time.Minute)
		require.NoError(t, a.Err())
		require.Equal(t, "0/1", a.place())
	})
}

func TestReclaimingEndsWithTheStay(t *testing.T) {
	inMemory(t, func(t *memory) {
		older := t.join("a", reclaim(time.Hour))
		newer := t.join("a")
		wait(time.Minute)
		require.NoError(t, older.Leave(t.Context()))
		require.NoError(t, newer.Leave(t.Context()))
		wait(10 * time.Hour)
		require.Empty(t, t.Members(cluster))
	})
}
