package libcluster_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// window is the part of the granted TTL for which an instance trusts its record.
func window(ttl time.Duration) time.Duration { return ttl * 60 / 100 }

// renewals notes when the latest renewal of each instance was sent that has
// succeeded, and lets each answer take as long as delay says.
type renewals struct {
	mu      sync.Mutex
	sent    map[string]time.Time
	stopped bool // from now on answers do not arrive
}

func (w *memory) watchRenewals(delay func() time.Duration) *renewals {
	r := &renewals{sent: map[string]time.Time{}}
	w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
		sent := time.Now()
		if err := call.Send(ctx); err != nil {
			return err
		}
		if call.Op != libclustertest.OpJoin && call.Op != libclustertest.OpRenew {
			return nil
		}
		if !libcluster.Sleep(ctx, delay()) {
			return context.Cause(ctx)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.stopped && sent.After(r.sent[call.ID]) { // answers overtake one another
			r.sent[call.ID] = sent
		}
		return nil
	})
	return r
}

func (r *renewals) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
}

func (r *renewals) of(id string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[id]
}

func promptly() time.Duration { return 0 }

// joinForAMinute has an instance join and renew promptly, and returns its deadline too.
func (w *memory) joinForAMinute(id string) (a *application, deadline time.Time) {
	w.Helper()
	renewals := w.watchRenewals(promptly)
	a = w.join(id)
	wait(time.Minute)
	return a, renewals.of(id).Add(window(libcluster.DefaultTTL))
}

// hang has each call of the registry hang, its context notwithstanding, until goOn is
// called or the test ends.
func (w *memory) hang() (goOn func()) {
	hang := make(chan struct{})
	w.Intercept(func(_ context.Context, call libclustertest.Call) error {
		<-hang
		return call.Send(context.Background())
	})
	goOn = sync.OnceFunc(func() {
		w.Intercept(nil)
		close(hang)
	})
	w.Cleanup(goOn)
	return goOn
}

// requireFencedAt waits until the deadline and makes sure that the instance is fenced
// then, and not a nanosecond before.
func (a *application) requireFencedAt(deadline time.Time) {
	a.w.Helper()
	wait(time.Until(deadline) - time.Nanosecond)
	require.True(a.w, a.State().Active(), "one nanosecond before the deadline")
	time.Sleep(time.Nanosecond)
	require.False(a.w, a.State().Active(), "at the deadline")
}

func TestCutMemberIsFencedExactlyAtItsDeadline(t *testing.T) {
	for name, delay := range map[string]func() time.Duration{
		"prompt answers": promptly,
		"slow answers":   func() time.Duration { return rand.N(2 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			for range 100 {
				inMemory(t, func(t *memory) { t.fencedAtDeadline(delay) })
			}
		})
	}
}

func (w *memory) fencedAtDeadline(delay func() time.Duration) {
	granted := time.Duration(2+rand.IntN(20)) * time.Second
	w.GrantTTL(granted) // whatever is asked for
	renewals := w.watchRenewals(delay)
	a := w.join("a", workers(2))
	wait(rand.N(10 * granted))
	if !a.State().Active() { // too slow for its TTL, which is another story
		return
	}
	renewals.stop()
	w.Cut("a")
	deadline := renewals.of("a").Add(window(granted))
	told := len(a.told())

	wait(time.Until(deadline) - time.Nanosecond)
	require.True(w, a.State().Active(), "one nanosecond before the deadline")
	require.WithinDuration(w, deadline, a.State().Deadline, 0)
	require.NoError(w, a.Err())
	require.Len(w, a.told(), told)

	time.Sleep(time.Nanosecond)
	require.Equal(w, libcluster.State{Index: -1, Workers: 2, Total: 0, Generation: a.State().Generation}, a.State(),
		"State looks at the clock, whatever has run or not")
	require.ErrorIs(w, a.Err(), libcluster.ErrDeadlinePassed)
	synctest.Wait()
	require.Len(w, a.told(), told+1)
	require.Equal(w, -1, a.last().Index)
	require.Equal(w, deadline, a.last().at, "the callback says so at that instant")
	require.True(w, w.Holds(cluster, "a"), "never later than the lease's end")
}

func TestDeadlineCountsFromSendingAndNotFromTheAnswer(t *testing.T) {
	inMemory(t, func(t *memory) {
		const slow = time.Second // not as slow as to be given up
		renewals := t.watchRenewals(func() time.Duration { return slow })
		a := t.join("a")
		wait(time.Minute)
		renewals.stop()
		t.CutAll()
		deadline := renewals.of("a").Add(window(libcluster.DefaultTTL))
		a.requireFencedAt(deadline)
	})
}

func TestDeadlineFollowsTheGrantedTTLAndNotTheOneAskedFor(t *testing.T) {
	inMemory(t, func(t *memory) {
		t.GrantTTL(time.Minute)
		renewals := t.watchRenewals(promptly)
		a := t.join("a", ttl(2*time.Second))
		wait(time.Hour)
		renewals.stop()
		t.Cut("a")
		a.requireFencedAt(renewals.of("a").Add(36 * time.Second))
	})
}

func TestFenceDoesNotWaitForACallbackOrForACallThatHangs(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, deadline := t.joinForAMinute("a")
		goOn := t.hang()
		a.inCallback(func(libcluster.State) { time.Sleep(time.Hour) })
		t.Put(cluster, "b", []byte("1")) // calls back, and that hangs too
		a.requireFencedAt(deadline)
		require.Equal(t, "0/1 0/2", a.story())
		a.inCallback(nil)
		goOn()
		wait(2 * time.Hour)
		require.Equal(t, "0/1 0/2 -1/1 0/2", a.story())
	})
}

func TestCallbackOfTheDeadlineDoesNotWaitForARenewalThatHangs(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, deadline := t.joinForAMinute("a")
		goOn := t.hang()
		wait(time.Minute)
		require.Equal(t, "0/1 -1/0", a.story())
		require.Equal(t, deadline, a.last().at)
		goOn()
		wait(time.Minute)
		require.Equal(t, "0/1 -1/0 0/1", a.story())
	})
}

// The heart looks a millisecond after it has looked, and the deadline may be between.
func TestCallbackOfTheDeadlineDoesNotWaitForARenewalThatFails(t *testing.T) {
	for range 20 {
		inMemory(t, func(t *memory) {
			a, deadline := t.joinForAMinute("a")
			t.Intercept(func(context.Context, libclustertest.Call) error { return errors.New("the disk is full") })
			wait(time.Minute)
			require.Equal(t, "0/1 -1/0", a.story())
			require.Equal(t, deadline, a.last().at)
		})
	}
}

// A renewal's answer comes after the deadline, and says that all is well: it
// changes nothing, for the place may have been given to others.
func TestLateSuccessAfterTheDeadlineDoesNotResurrect(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, deadline := t.joinForAMinute("a")
		var late atomic.Int32
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op != libclustertest.OpRenew {
				return gone(ctx)
			}
			if err := call.Send(context.Background()); err != nil {
				return err
			}
			time.Sleep(time.Until(deadline) + time.Second) // its context notwithstanding
			late.Add(1)
			return nil
		})
		wait(time.Until(deadline))
		require.False(t, a.State().Active())
		require.Zero(t, late.Load())
		for range 60 {
			wait(100 * time.Millisecond)
			require.False(t, a.State().Active())
			require.ErrorIs(t, a.Err(), libcluster.ErrDeadlinePassed)
		}
		require.NotZero(t, late.Load(), "a renewal has succeeded too late")
		require.Equal(t, "0/1 -1/0", a.story())
	})
}

// An answer is worth what it proves, however late it comes. With a TTL of 10 s the window
// is 6 s: answers after 4 s leave 2 s for the next one. An incarnation that begins needs
// two round trips within its window, one to join and one to renew.
func TestSlowAnswersFenceNobody(t *testing.T) {
	for name, delays := range map[string]struct{ joining, joined time.Duration }{
		"from the beginning": {2900 * time.Millisecond, 2900 * time.Millisecond},
		"since it has begun": {0, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *memory) {
				var delay atomic.Int64
				delay.Store(int64(delays.joining))
				t.watchRenewals(func() time.Duration { return time.Duration(delay.Load()) })
				a := t.join("a", ttl(10*time.Second))
				delay.Store(int64(delays.joined))
				for range 3600 {
					wait(time.Second)
					require.True(t, a.State().Active())
				}
				require.Equal(t, "0/1", a.story())
			})
		})
	}
}

// What an answer proves counts from when its request was sent.
func TestSlowAnswerDoesNotExtendTheDeadline(t *testing.T) {
	inMemory(t, func(t *memory) {
		renewals := t.watchRenewals(func() time.Duration { return 4 * time.Second })
		a := t.join("a", ttl(10*time.Second))
		wait(time.Minute)
		renewals.stop()
		t.Cut("a")
		a.requireFencedAt(renewals.of("a").Add(6 * time.Second))
	})
}

// The answers to heartbeats come in the reverse order: the older proves less.
func TestOvertakenAnswerDoesNotShortenTheDeadline(t *testing.T) {
	inMemory(t, func(t *memory) {
		var calls atomic.Int32
		renewals := t.watchRenewals(func() time.Duration {
			if calls.Add(1)%2 == 0 {
				return 3 * time.Second
			}
			return 0
		})
		a := t.join("a", ttl(10*time.Second))
		for range 600 {
			wait(100 * time.Millisecond)
			require.Equal(t, renewals.of("a").Add(6*time.Second), a.State().Deadline)
		}
	})
}

func TestFailuresWithinTheWindowFenceNobody(t *testing.T) {
	inMemory(t, func(t *memory) {
		var failed atomic.Int32
		renewals := t.watchRenewals(promptly)
		a := t.join("a")
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op != libclustertest.OpRenew {
				return call.Send(ctx)
			}
			renewals.mu.Lock()
			defer renewals.mu.Unlock()
			if time.Since(renewals.sent["a"]) < 5*time.Second {
				failed.Add(1)
				return errors.New("the registry is down")
			}
			renewals.sent["a"] = time.Now()
			return call.Send(ctx)
		})
		for range 3600 {
			wait(time.Second)
			require.True(t, a.State().Active())
		}
		require.Equal(t, "0/1", a.story())
		require.Greater(t, failed.Load(), int32(3600), "after a failure the next attempt comes sooner")
	})
}

func TestLostRecordFencesAtOnce(t *testing.T) {
	for name, lost := range map[string]struct {
		how func(w *memory)
		why error
	}{
		"expired":                     {func(w *memory) { w.Expire(cluster, "a") }, libcluster.ErrRecordGone},
		"deleted":                     {func(w *memory) { w.Delete(cluster, "a") }, libcluster.ErrRecordGone},
		"overwritten without a lease": {func(w *memory) { w.Put(cluster, "a", []byte("2")) }, libcluster.ErrRecordGone},
		"with the whole store":        {func(w *memory) { w.Restore(libclustertest.Snapshot{}) }, libcluster.ErrRegistryReset},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *memory) {
				a := t.join("a", workers(2))
				wait(time.Minute)
				var cut atomic.Bool // from joining again, to see it fenced
				cut.Store(true)
				t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
					if cut.Load() && call.Op == libclustertest.OpJoin {
						return errors.New("not now")
					}
					return call.Send(ctx)
				})
				start := time.Now()
				lost.how(t)
				synctest.Wait()
				require.False(t, a.State().Active())
				require.ErrorIs(t, a.Err(), lost.why)
				require.Equal(t, "0/2 -1/0", a.story())
				require.Equal(t, start, a.last().at)
				cut.Store(false)
				wait(2 * time.Second)
				require.Equal(t, "0/2 -1/0 0/2", a.story(), "it rejoins by itself")
				require.True(t, t.Holds(cluster, "a"))
				require.NoError(t, a.Err())
			})
		})
	}
}

// Watching finds a lost record at once. When the watch has gone silent, renewing
// finds it.
func TestRenewingFindsALostRecordWhenTheWatchIsSilent(t *testing.T) {
	inMemory(t, func(t *memory) {
		var silent atomic.Bool
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			err := call.Send(ctx)
			if call.Op == libclustertest.OpNext && silent.Load() {
				return gone(ctx)
			}
			return err
		})
		a := t.join("a")
		silent.Store(true)
		wait(time.Minute)
		t.Steal(cluster, "a")
		require.True(t, a.State().Active())
		wait(libcluster.DefaultTTL/6 + time.Nanosecond)
		require.False(t, a.State().Active())
		require.ErrorIs(t, a.Err(), libcluster.ErrInstanceTaken)
	})
}
