package libcluster_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// Leave(ctx) with the context that a signal has ended is what people write.
func TestLeavingWithAnEndedContextLeavesProperly(t *testing.T) {
	nearly := func(w *memory) context.Context { return w.within(time.Nanosecond) }
	ended := func(w *memory) context.Context {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx
	}
	for name, context := range map[string]func(*memory) context.Context{"ended": ended, "nearly ended": nearly} {
		for _, m := range rangeModes {
			t.Run(name+"/"+m.String(), func(t *testing.T) {
				inMemory(t, func(w *memory) {
					b := w.join("b", mode(m))
					a := w.join("a", mode(m))
					wait(time.Minute)
					for range 10 {
						start := time.Now()
						require.NoError(w, a.Leave(context(w)))
						require.False(w, a.last().Active(), "told when Leave returns: %s", a.story())
						require.False(w, w.Holds(cluster, "a"))
						require.Less(w, time.Since(start), time.Second)
						wait(time.Second)
						require.Equal(w, "0/1", b.place(), "the others do not wait for the record to expire")
						require.NoError(w, a.Join(w.Context()))
						wait(time.Minute)
					}
					requireTakenBack(a)
				})
			})
		}
	}
}

// requireTakenBack fails if a place was told in one stay that the one before had not taken back.
func requireTakenBack(a *application) {
	a.w.Helper()
	told := a.told()
	require.False(a.w, told[len(told)-2].Active(), "%s", a.story())
}

func TestLeavingWithAnEndedContextEndsSoonWhenTheRegistryHangs(t *testing.T) {
	inMemory(t, func(w *memory) {
		a := w.join("a")
		w.Cut("a")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		start := time.Now()
		err := a.Leave(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "stays until it expires")
		require.NotContains(t, err.Error(), "callback", "none hangs")
		require.LessOrEqual(t, time.Since(start), 1250*time.Millisecond)
		require.Equal(t, "0/1 -1/0", a.story())
		require.Equal(t, start, a.last().at, "the application is told first")
	})
}

// A stay that an earlier one's callback has kept from telling anything has nothing to
// take back, and is left at once.
func TestLeavingDoesNotWaitForAnEarlierMembershipsCallback(t *testing.T) {
	inMemory(t, func(w *memory) {
		a := w.join("a")
		returns := make(chan struct{})
		a.inCallback(func(libcluster.State) { <-returns })
		require.Error(t, a.Leave(w.within(time.Second)))
		for range 3 {
			joined := make(chan error, 1)
			go func() { joined <- a.Join(w.Context()) }()
			wait(time.Minute)
			start := time.Now()
			require.NoError(t, a.Leave(w.Context()))
			require.Zero(t, time.Since(start))
			require.ErrorIs(t, <-joined, libcluster.ErrLeft)
		}
		require.Equal(t, "0/1 -1/0", a.story())
		a.inCallback(nil)
		close(returns)
		synctest.Wait()
		require.NoError(t, a.Join(w.Context()))
		require.Equal(t, "0/1 -1/0 0/1", a.story())
	})
}

// Its place is taken back when the callback returns, and before another is given.
func TestAnAssignmentIsTakenBackFromACallbackThatOutlivesLeave(t *testing.T) {
	for _, again := range []bool{false, true} {
		inMemory(t, func(w *memory) {
			a, b := w.join("a"), w.join("b")
			returns := make(chan struct{})
			a.inCallback(func(libcluster.State) { <-returns })
			require.NoError(t, b.Leave(w.Context()))
			wait(time.Second)
			require.Equal(t, "0/1 0/2 0/1", a.story())
			require.ErrorContains(t, a.Leave(w.within(time.Second)), "a callback has not returned")
			joined := make(chan error, 1)
			if again {
				go func() { joined <- a.Join(w.Context()) }()
				wait(time.Minute)
			}
			a.inCallback(nil)
			close(returns)
			wait(time.Second)
			if again {
				require.NoError(t, <-joined)
				require.Equal(t, "0/1 0/2 0/1 -1/0 0/1", a.story())
				return
			}
			require.Equal(t, "0/1 0/2 0/1 -1/0", a.story())
		})
	}
}
