package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// ledger is what the functions of all partitions do.
type ledger struct {
	*bubble
	mu     sync.Mutex
	holds  map[int]string           // by partition: who runs it
	tokens map[int]int64            // the greatest so far
	begun  map[string]int           // runs begun, by instance
	slow   map[string]time.Duration // by instance: how long each function takes to stop
	ends   map[string]func() error
}

func inLedger(t *testing.T, test func(l *ledger)) {
	inBubble(t, func(b *bubble) {
		l := &ledger{
			bubble: b, holds: map[int]string{}, tokens: map[int]int64{}, begun: map[string]int{},
			slow: map[string]time.Duration{}, ends: map[string]func() error{},
		}
		defer func() {
			for _, end := range l.ends {
				_ = end()
			}
		}()
		test(l)
	})
}

func cooperative(partitions int, change ...func(*libcluster.Config)) func(*libcluster.Config) {
	return func(c *libcluster.Config) {
		c.Mode, c.Partitions = libcluster.ModeCooperative, partitions
		for _, f := range change {
			f(c)
		}
	}
}

// work is what runs for each partition of an instance.
func (l *ledger) work(id string) func(context.Context, libcluster.Partition) error {
	return func(ctx context.Context, p libcluster.Partition) error {
		l.mu.Lock()
		require.Empty(l.T, l.holds[p.Number], "partition %d runs twice: by %s and %s", p.Number, l.holds[p.Number], id)
		require.Greater(l.T, p.Token, l.tokens[p.Number], "the token of partition %d has not grown", p.Number)
		l.holds[p.Number], l.tokens[p.Number] = id, p.Token
		l.begun[id]++
		l.mu.Unlock()
		<-ctx.Done()
		l.mu.Lock()
		slow := l.slow[id]
		l.mu.Unlock()
		time.Sleep(slow)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.holds, p.Number)
		return nil
	}
}

// runs starts an instance of so many partitions, and returns when nothing more happens.
func (l *ledger) runs(id string, partitions int, change ...func(*libcluster.Config)) *libcluster.Cluster {
	c := l.begins(id, partitions, change...)
	wait(time.Second)
	return c
}

// begins starts an instance.
func (l *ledger) begins(id string, partitions int, change ...func(*libcluster.Config)) *libcluster.Cluster {
	c := l.instance(id, cooperative(partitions, change...))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.RunPartitions(ctx, l.work(id)) }()
	l.ends[id] = sync.OnceValue(func() error { cancel(); return <-done })
	return c
}

// held is how many partitions each instance runs.
func (l *ledger) held() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := map[string]int{}
	for _, id := range l.holds {
		held[id]++
	}
	return held
}

// starts is how many runs each instance has begun since it was asked last.
func (l *ledger) starts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	begun := l.begun
	l.begun = map[string]int{}
	return begun
}

func TestPartitionsAreSharedAndOnlyThoseThatMoveAreStopped(t *testing.T) {
	inLedger(t, func(l *ledger) {
		a := l.runs("a", 12)
		require.Equal(l.T, map[string]int{"a": 12}, l.starts())
		l.runs("b", 12)
		require.Equal(l.T, map[string]int{"b": 6}, l.starts(), "a goes on with its other six")
		l.runs("c", 12)
		require.Equal(l.T, map[string]int{"c": 4}, l.starts())
		require.Equal(l.T, map[string]int{"a": 4, "b": 4, "c": 4}, l.held())
		held := slices.Collect(a.State().Held())
		require.Len(l.T, held, 4)
		require.Equal(l.T, held[0].Number, a.State().Index)
		require.NoError(l.T, l.ends["b"]())
		wait(time.Second)
		require.Equal(l.T, map[string]int{"a": 2, "c": 2}, l.starts())
		require.Equal(l.T, map[string]int{"a": 6, "c": 6}, l.held())
		require.NoError(l.T, a.SetWorkers(context.Background(), 3))
		wait(time.Second)
		require.Equal(l.T, map[string]int{"a": 3}, l.starts())
		require.Equal(l.T, map[string]int{"a": 9, "c": 3}, l.held())
		for key := range 100 {
			owner, known := a.OwnerOf(fmt.Sprint(key))
			require.True(l.T, known)
			require.Equal(l.T, a.State().Owns(fmt.Sprint(key)), owner.ID == "a")
		}
	})
}

// One that has vanished is waited for, and meanwhile nobody else notices anything.
func TestOnlyThePartitionsOfAVanishedInstanceWait(t *testing.T) {
	inLedger(t, func(l *ledger) {
		l.runs("a", 9)
		l.runs("b", 9)
		l.runs("c", 9)
		l.starts()
		l.Cut("b")
		wait(time.Minute)
		require.Equal(l.T, map[string]int{"a": 2, "c": 1}, l.starts(), "five of them had to go to two")
		require.Equal(l.T, map[string]int{"a": 5, "c": 4}, l.held())
		l.Heal("b")
		wait(30 * time.Second)
		require.Equal(l.T, map[string]int{"b": 3}, l.starts())
	})
}

// One function that is slow to stop holds up its own partition only.
func TestASlowPartitionHoldsUpItselfOnly(t *testing.T) {
	inLedger(t, func(l *ledger) {
		a := l.runs("a", 8)
		l.mu.Lock()
		l.slow["a"] = 20 * time.Second
		l.mu.Unlock()
		l.runs("b", 8)
		require.Equal(l.T, map[string]int{"a": 8}, l.held())
		wait(5 * time.Second)
		require.Equal(l.T, "a", a.Blockers()[0].ID)
		require.Len(l.T, a.Blockers()[0].Partitions, 4)
		wait(20 * time.Second)
		require.Equal(l.T, map[string]int{"a": 4, "b": 4}, l.held())
		require.Empty(l.T, a.Blockers())
	})
}

func TestAnInstanceOfAnotherNumberOfPartitionsIsRefused(t *testing.T) {
	inLedger(t, func(l *ledger) {
		l.runs("a", 8)
		c := l.instance("b", cooperative(16))
		err := c.Join(context.Background())
		var mode *libcluster.ModeError
		require.True(l.T, errors.As(err, &mode), "%v", err)
		require.Equal(l.T, &libcluster.ModeError{
			Mode: libcluster.ModeCooperative, Cluster: libcluster.ModeCooperative, Partitions: 16, ClusterPartitions: 8,
		}, mode)
	})
}

// Whatever the number of members, partitions and newcomers, if these come at once.
func TestAChangeCostsTwoPlansAndAnAcknowledgementOfEachThatGives(t *testing.T) {
	for _, c := range []struct{ members, partitions, newcomers, workers, give int }{
		{6, 60, 1, 2, 6},
		{20, 45, 1, 1, 2},
		{10, 1000, 1, 1, 10},
		{10, 1000, 3, 1, 10},
		{10, 1000, 10, 1, 10},
	} {
		t.Run(fmt.Sprintf("%d of %d by %d", c.partitions, c.members, c.newcomers), func(t *testing.T) {
			inLedger(t, func(l *ledger) {
				for i := range c.members {
					l.begins(fmt.Sprint(i), c.partitions)
				}
				wait(time.Minute)
				all := make(chan struct{}) // have come, before the next survey
				count := l.counted(func(op libclustertest.Op) {
					if op == libclustertest.OpSurvey {
						<-all
					}
				})
				require.NoError(l.T, l.all[0].SetMetadata(context.Background(), map[string]string{"has": "the last survey end"}))
				wait(0)
				for i := range c.newcomers {
					l.begins(fmt.Sprint("x", i), c.partitions, func(cfg *libcluster.Config) { cfg.Workers = c.workers })
				}
				wait(0)
				close(all)
				wait(time.Minute)
				require.Equal(l.T, 2, count(libclustertest.OpSwap))
				require.Equal(l.T, c.give, count(libclustertest.OpAcknowledge))
				held := l.held()
				for i := range c.newcomers {
					share := c.workers * c.partitions / (c.members + c.newcomers*c.workers)
					require.GreaterOrEqual(l.T, held[fmt.Sprint("x", i)], share)
				}
			})
		})
	}
}

func TestADrainingInstanceGivesItsPartitionsAwayAndStaysAMember(t *testing.T) {
	inLedger(t, func(l *ledger) {
		a := l.runs("a", 12)
		b := l.runs("b", 12)
		l.runs("c", 12)
		l.starts()
		ctx := context.Background()
		require.NoError(l.T, b.SetDraining(ctx, true))
		wait(time.Second)
		require.Equal(l.T, map[string]int{"a": 2, "c": 2}, l.starts())
		require.Equal(l.T, libcluster.PhaseWaiting, b.Phase())
		require.ErrorIs(l.T, b.Err(), libcluster.ErrWaiting)
		require.NoError(l.T, b.SetDraining(ctx, false))
		wait(time.Second)
		require.Equal(l.T, map[string]int{"b": 4}, l.starts())
		require.NoError(l.T, a.SetDraining(ctx, true))
		require.NoError(l.T, b.SetDraining(ctx, true))
		wait(time.Second)
		require.Equal(l.T, map[string]int{"c": 12}, l.held())
		require.NoError(l.T, l.all[2].SetDraining(ctx, true))
		wait(time.Second)
		require.Equal(l.T, map[string]int{"a": 4, "b": 4, "c": 4}, l.held(), "all drain, and so none does")
	})
}

// More instances than partitions: Join returns, and the spare instance waits for its turn.
func TestASpareInstanceJoinsAndTakesOver(t *testing.T) {
	inLedger(t, func(l *ledger) {
		l.runs("a", 2)
		l.runs("b", 2)
		spare := l.member("c", cooperative(2))
		require.Equal(l.T, libcluster.PhaseWaiting, spare.Phase())
		require.NoError(l.T, l.ends["a"]())
		wait(time.Second)
		require.True(l.T, spare.State().Active())
		require.NoError(l.T, spare.Err())
	})
}

// A restart within the time for which they are reserved brings the same partitions back, and
// nobody else is called.
func TestPartitionsAreReservedForARestart(t *testing.T) {
	inLedger(t, func(l *ledger) {
		l.runs("a", 12)
		b := l.member("b", cooperative(12))
		l.runs("c", 12)
		l.starts()
		before := slices.Collect(b.State().Held())
		require.NoError(l.T, b.Leave(context.Background(), libcluster.Returning(time.Minute)))
		wait(30 * time.Second)
		l.joins(b)
		wait(time.Second)
		after := slices.Collect(b.State().Held())
		require.Len(l.T, after, 4)
		for i := range after {
			require.Equal(l.T, before[i].Number, after[i].Number)
			require.Greater(l.T, after[i].Token, before[i].Token)
		}
		require.Empty(l.T, l.starts())
	})
}

func TestOtherWaysOfRunningSayWhichToUse(t *testing.T) {
	inBubble(t, func(b *bubble) {
		none := func(context.Context, libcluster.Partition) error { return nil }
		require.ErrorContains(b.T, b.instance("a").RunPartitions(context.Background(), none), "set Config.Mode to ModeCooperative")
		err := b.instance("a", cooperative(4)).RunWorkers(context.Background(), func(context.Context, int, libcluster.State) error { return nil })
		require.ErrorContains(b.T, err, "use RunPartitions")
	})
}

func TestAnErrorOfAPartitionEndsRunPartitionsAndANilDoesNot(t *testing.T) {
	inLedger(t, func(l *ledger) {
		c := l.instance("a", cooperative(3))
		fail := make(chan error, 1)
		done := make(chan error, 1)
		go func() {
			done <- c.RunPartitions(context.Background(), func(ctx context.Context, p libcluster.Partition) error {
				if p.Number == 1 {
					return <-fail
				}
				return nil
			})
		}()
		wait(time.Minute)
		require.Empty(l.T, done)
		require.True(l.T, c.State().Active())
		fail <- errDown
		require.ErrorIs(l.T, <-done, errDown)
		require.Equal(l.T, libcluster.PhaseLeft, c.Phase())
	})
}

// A function that does not return costs its instance the record. The others get its partitions
// once its deadline must have passed, and it rejoins when the function has returned.
func TestAPartitionThatHangsIsTakenFromItsInstance(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var stuck atomic.Int64
		a := b.instance("a", cooperative(4, func(c *libcluster.Config) {
			c.DrainTimeout, c.OnStuck = 10*time.Second, func() { stuck.Add(1) }
		}))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			done <- a.RunPartitions(ctx, func(ctx context.Context, p libcluster.Partition) error {
				<-ctx.Done()
				time.Sleep(time.Minute)
				return nil
			})
		}()
		wait(time.Second)
		other := b.instance("b", cooperative(4))
		joined := make(chan error, 1)
		go func() { joined <- other.Join(context.Background()) }()
		held := func(c *libcluster.Cluster) int { return len(slices.Collect(c.State().Held())) }
		wait(9 * time.Second)
		require.Zero(b.T, stuck.Load())
		require.Equal(b.T, 2, held(a))
		require.Empty(b.T, joined)
		wait(2 * time.Second)
		require.EqualValues(b.T, 1, stuck.Load())
		require.Equal(b.T, libcluster.PhaseFenced, a.Phase())
		require.NoError(b.T, <-joined)
		wait(time.Second)
		require.Equal(b.T, 4, held(other))
		wait(time.Minute)
		require.Equal(b.T, 2, held(a))
		require.Equal(b.T, 2, held(other))
		cancel()
		require.NoError(b.T, <-done)
		require.EqualValues(b.T, 2, stuck.Load(), "leaving has taken as long")
	})
}

// counted returns how often each call is made from now on, and has something done before each.
func (l *ledger) counted(before func(libclustertest.Op)) func(libclustertest.Op) int {
	var mu sync.Mutex
	count := map[libclustertest.Op]int{}
	l.Intercept(func(ctx context.Context, call libclustertest.Call) error {
		mu.Lock()
		count[call.Op]++
		mu.Unlock()
		before(call.Op)
		return call.Send(ctx)
	})
	return func(op libclustertest.Op) int {
		mu.Lock()
		defer mu.Unlock()
		return count[op]
	}
}

func TestWhatIsReleasedSoonIsGrantedByOnePlanAndWhatComesLateByAnother(t *testing.T) {
	for _, c := range []struct {
		slow  map[string]time.Duration
		plans int
	}{
		{map[string]time.Duration{"b": 100 * time.Millisecond, "c": 200 * time.Millisecond}, 2},
		{map[string]time.Duration{"b": 100 * time.Millisecond, "c": 300 * time.Millisecond}, 3},
	} {
		inLedger(t, func(l *ledger) {
			for _, id := range []string{"a", "b", "c"} {
				l.runs(id, 12)
			}
			l.mu.Lock()
			l.slow = c.slow
			l.mu.Unlock()
			count := l.counted(func(libclustertest.Op) {})
			l.runs("x", 12)
			require.Equal(l.T, c.plans, count(libclustertest.OpSwap), "%v", c.slow)
			require.Equal(l.T, map[string]int{"a": 3, "b": 3, "c": 3, "x": 3}, l.held())
		})
	}
}
