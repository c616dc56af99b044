package libcluster_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// laborer is an instance that does something with RunWorkers, and for how long it has.
type laborer struct {
	mu     sync.Mutex
	worked time.Duration
}

// labor works from a while after it was started until it has to stop, which takes a
// while, too.
func (l *laborer) labor(ctx context.Context, _ int, _ libcluster.State) error {
	const takes = 350 * time.Millisecond
	time.Sleep(takes)
	for began := time.Now(); ; began = time.Now() {
		over := false
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			over = true
		}
		l.mu.Lock()
		l.worked += time.Since(began)
		l.mu.Unlock()
		if over {
			time.Sleep(takes)
			return ctx.Err()
		}
	}
}

// laborers starts three of them, and returns a function that tells which share of the
// time since they have worked.
func (b *bubble) laborers(mode libcluster.Mode) (share func() float64) {
	var all []*laborer
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	b.ends = func() { stop(); running.Wait() }
	for i := range 3 {
		l := &laborer{}
		all = append(all, l)
		c := b.instance(fmt.Sprintf("healthy-%d", i), in(mode))
		running.Go(func() { _ = c.RunWorkers(ctx, l.labor) })
	}
	wait(time.Minute)
	before, began := total(all), time.Now()
	return func() float64 {
		return (total(all) - before).Seconds() / (3 * time.Since(began).Seconds())
	}
}

func total(all []*laborer) (worked time.Duration) {
	for _, l := range all {
		l.mu.Lock()
		worked += l.worked
		l.mu.Unlock()
	}
	return worked
}

func in(mode libcluster.Mode) func(*libcluster.Config) {
	return func(c *libcluster.Config) { c.Mode = mode }
}

// crashes has an instance come, be killed after a while, and be back after another.
func (b *bubble) crashes(mode libcluster.Mode, id string, lives, back time.Duration) {
	c := b.instance(id, in(mode))
	ctx, cancel := context.WithCancel(context.Background())
	joined := make(chan struct{})
	go func() { defer close(joined); _ = c.Join(ctx) }()
	wait(lives)
	b.Cut(id) // and nothing of it arrives any more
	cancel()
	go func() { <-joined; _ = c.Leave(ctx) }()
	wait(back)
}

func TestOneInACrashLoopDoesNotStarveTheOthers(t *testing.T) {
	const measured = 10 * time.Minute
	for _, lives := range []time.Duration{time.Second, 5 * time.Second, 15 * time.Second, 45 * time.Second, 2 * time.Minute} {
		for _, mode := range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive} {
			t.Run(fmt.Sprint(lives, " ", mode), func(t *testing.T) {
				inBubble(t, func(b *bubble) {
					share := b.laborers(mode)
					began := time.Now()
					for n := 0; time.Since(began) < measured; n++ {
						b.crashes(mode, fmt.Sprintf("loop-%d", n), lives, time.Second)
					}
					worked := share()
					t.Logf("%-9v lives for %-4v: the three healthy ones worked %2.0f %% of the time", mode, lives, 100*worked)
					require.Greater(t, worked, 0.95)
					b.ends()
				})
			})
		}
	}
}

// A rolling deployment, and one that comes and goes all the time as it should.
func TestOneThatLeavesIsHeldAgainstNobody(t *testing.T) {
	for _, mode := range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				last := b.member("healthy", in(mode))
				b.member("other", in(mode))
				for n := range 10 {
					began := time.Now()
					c := b.member(fmt.Sprintf("next-%d", n), in(mode))
					require.Less(t, time.Since(began), 200*time.Millisecond, "newcomer %d", n)
					wait(time.Second)
					began = time.Now()
					require.NoError(t, last.Leave(context.Background()))
					require.Less(t, time.Since(began), 200*time.Millisecond)
					last = c
				}
			})
		})
	}
}

// Who was there for long and is killed says nothing of those that come.
func TestInstancesThatWereThereForLongAreReplacedAtOnce(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.member("other", in(libcluster.ModePlanned))
		wait(time.Second)
		for n := range 5 {
			b.member(fmt.Sprintf("old-%d", n), in(libcluster.ModePlanned))
		}
		wait(time.Minute)
		for n := range 5 {
			b.killed(b.all[1+n])
			wait(15 * time.Second)
			began := time.Now()
			b.member(fmt.Sprintf("new-%d", n), in(libcluster.ModePlanned))
			require.Less(t, time.Since(began), 200*time.Millisecond, "newcomer %d", n)
		}
	})
}

func TestANewcomerWaitsWhileAnotherIsInACrashLoop(t *testing.T) {
	for _, mode := range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				b.member("healthy", in(mode))
				loop := func(from, to int) {
					for n := from; n < to; n++ {
						b.crashes(mode, fmt.Sprintf("loop-%d", n), time.Second, time.Second)
					}
				}
				loop(0, 60)
				newcomer := b.instance("newcomer", in(mode))
				ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
				defer cancel()
				joined := make(chan error, 1)
				go func() { joined <- newcomer.Join(ctx) }()
				loop(60, 66)
				require.False(t, newcomer.State().Active())
				wait(5 * time.Second)
				require.ErrorContains(t, <-joined, "newcomers have to wait")

				go func() { joined <- newcomer.Join(context.Background()) }()
				loop(66, 80)
				require.NoError(t, <-joined)
				require.True(t, newcomer.State().Active())
				require.Equal(t, 2, newcomer.State().Total)

				wait(3 * time.Minute) // calm
				began := time.Now()
				b.member("another", in(mode))
				require.Less(t, time.Since(began), 200*time.Millisecond)
			})
		})
	}
}
