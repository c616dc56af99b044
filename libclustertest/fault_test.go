package libclustertest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
	"github.com/libcluster/libcluster/libclustertest"
)

// cluster is the one that the sessions of these tests join.
const cluster = "mailer/production"

// world is a bubble's test, and the registry.
type world struct {
	*testing.T
	*libclustertest.Registry
}

// inBubble runs a test in a bubble. Goroutines that the test leaves behind
// deadlock there, and fail it.
func inBubble(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(&world{t, libclustertest.New()}) })
}

// wait waits for a time, and until all has come to rest then.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// gone has a call hang until its context ends.
func gone(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// within returns a context that ends after d.
func (w *world) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	w.Cleanup(cancel)
	return ctx
}

// open opens a session, without anything above it that would act by itself.
func (w *world) open(id string, n int) libcluster.Session {
	w.Helper()
	session, ttl, err := between.Join(w.Context(), w, registration(id, n))
	require.NoError(w, err)
	require.Equal(w, 10*time.Second, ttl)
	w.Cleanup(func() { _ = session.Close() })
	return session
}

func registration(id string, n int) libcluster.Registration {
	return libcluster.Registration{
		Key: "mailer", Env: "production", TTL: 10 * time.Second,
		Member: libcluster.Member{ID: id, Workers: n},
	}
}

// events returns the next change as "a=1", "a gone", with "all:" in front of a
// list.
func (w *world) events(session libcluster.Session) []string {
	w.Helper()
	change, err := session.Next(w.within(time.Second))
	require.NoError(w, err)
	var events []string
	if change.Reset {
		events = append(events, "all:")
	}
	for _, e := range change.Events {
		if e.Gone {
			events = append(events, e.Member.ID+" gone")
		} else {
			events = append(events, fmt.Sprintf("%s=%d", e.Member.ID, e.Member.Workers))
		}
	}
	return events
}

// quiet fails if there is a change.
func (w *world) quiet(session libcluster.Session) {
	w.Helper()
	change, err := session.Next(w.within(time.Second))
	require.ErrorIs(w, err, context.DeadlineExceeded, "%+v", change)
}

func TestCutHangsCallsUntilTheirContextEndsOrItIsHealed(t *testing.T) {
	inBubble(t, func(t *world) {
		a, b := t.open("a", 1), t.open("b", 1)
		require.Equal(t, []string{"all:", "a=1"}, t.events(a))
		require.Equal(t, []string{"b=1"}, t.events(a))

		// A Next that waits already is cut off too.
		next := make(chan error, 1)
		go func() {
			_, err := a.Next(context.Background())
			next <- err
		}()
		synctest.Wait()
		t.Cut("a")
		require.NoError(t, b.Update(t.Context(), libcluster.Member{ID: "b", Workers: 2}))
		for op, call := range map[string]func(context.Context) error{
			"Join":   func(ctx context.Context) error { _, _, err := between.Join(ctx, t, registration("a", 1)); return err },
			"Renew":  func(ctx context.Context) error { _, err := a.Renew(ctx); return err },
			"Update": func(ctx context.Context) error { return a.Update(ctx, libcluster.Member{ID: "a", Workers: 5}) },
		} {
			start := time.Now()
			require.ErrorIs(t, call(t.within(3*time.Second)), context.DeadlineExceeded, op)
			require.Equal(t, 3*time.Second, time.Since(start), op)
		}
		require.Empty(t, next)
		require.Equal(t, []string{"all:", "a=1", "b=1"}, t.events(b), "another one goes on")
		require.Equal(t, []string{"b=2"}, t.events(b))

		t.Heal("a")
		require.NoError(t, <-next, "what hung goes on")
		_, err := a.Renew(t.Context())
		require.NoError(t, err)
		t.Cut("a")
		require.ErrorIs(t, a.Leave(t.within(time.Second), libcluster.Departure{}), context.DeadlineExceeded)
		require.True(t, t.Holds(cluster, "a"))
	})
}

func TestCutAllHangsEverybodyUntilHealAll(t *testing.T) {
	inBubble(t, func(t *world) {
		a := t.open("a", 1)
		t.Cut("b")
		t.CutAll()
		t.Heal("a")
		_, err := a.Renew(t.within(time.Second))
		require.ErrorIs(t, err, context.DeadlineExceeded, "healing one does not bring the registry back")
		wait(10 * time.Second)
		require.False(t, t.Holds(cluster, "a"), "leases run out meanwhile")
		t.HealAll()
		t.open("b", 1)
		_, err = a.Renew(t.Context())
		require.ErrorIs(t, err, libcluster.ErrRecordGone)
	})
}

func TestAnswerUnderWayIsHeldUpByACut(t *testing.T) {
	inBubble(t, func(t *world) {
		a := t.open("a", 1)
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			err := call.Send(ctx)
			time.Sleep(time.Second)
			return err
		})
		renewed := make(chan error, 1)
		go func() { _, err := a.Renew(context.Background()); renewed <- err }()
		wait(500 * time.Millisecond)
		t.Cut("a")
		wait(time.Hour)
		require.Empty(t, renewed)
		t.Heal("a")
		require.NoError(t, <-renewed)
	})
}

func TestInterceptedEffectMayHappenWithoutAnAnswer(t *testing.T) {
	inBubble(t, func(t *world) {
		a, b := t.open("a", 1), t.open("b", 1)
		require.Len(t, t.events(b), 3)
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			assert.Equal(t, cluster, call.Cluster)
			err := call.Send(ctx)
			if call.ID == "a" {
				return gone(ctx)
			}
			return err
		})
		require.Error(t, a.Update(t.within(time.Second), libcluster.Member{ID: "a", Workers: 7}))
		require.Equal(t, []string{"a=7"}, t.events(b))

		_, err := a.Next(t.within(time.Second))
		require.Error(t, err)
		t.Intercept(nil)
		require.Equal(t, []string{"all:", "a=1"}, t.events(a), "a change whose answer was lost is returned again")
	})
}

func TestInterceptedRequestMayArriveLate(t *testing.T) {
	inBubble(t, func(t *world) {
		a := t.open("a", 1)
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpOpen {
				return call.Send(ctx)
			}
			time.AfterFunc(time.Minute/10, func() { _ = call.Send(context.Background()) })
			return gone(ctx)
		})
		require.Error(t, a.Update(t.within(time.Second), libcluster.Member{ID: "a", Workers: 7}))
		require.Equal(t, 1, t.Members(cluster)[0].Workers)
		wait(time.Minute)
		require.Empty(t, t.Members(cluster))

		start := time.Now()
		_, _, err := between.Join(t.within(time.Second), t, registration("b", 3))
		require.Error(t, err)
		require.Empty(t, t.Members(cluster))
		wait(time.Until(start.Add(time.Minute / 10)))
		require.Len(t, t.Members(cluster), 1, "a join that nobody waits for any more")
		wait(10 * time.Second)
		require.Empty(t, t.Members(cluster), "and its record, that nobody renews")
	})
}

func TestInterceptedErrorIsWhatTheCallerGets(t *testing.T) {
	inBubble(t, func(t *world) {
		a := t.open("a", 1)
		down := errors.New("the registry is down")
		t.Intercept(func(context.Context, libclustertest.Call) error { return down })
		_, err := a.Renew(t.Context())
		require.ErrorIs(t, err, down)
		_, err = a.Next(t.Context())
		require.ErrorIs(t, err, down)
		require.ErrorIs(t, a.Update(t.within(time.Second), libcluster.Member{ID: "a", Workers: 2}), down) // it is sent again
		_, _, err = between.Join(t.Context(), t, registration("b", 1))
		require.ErrorIs(t, err, down)
		require.Len(t, t.Members(cluster), 1)
	})
}

func TestInterceptorThatInventsSuccessPanics(t *testing.T) {
	inBubble(t, func(t *world) {
		a := t.open("a", 1)
		t.Intercept(func(context.Context, libclustertest.Call) error { return nil })
		require.PanicsWithValue(t, "libclustertest: the interceptor let renew of a succeed without Send", func() {
			_, _ = a.Renew(t.Context())
		})
	})
}

func TestLostLeaseIsToldToItsSession(t *testing.T) {
	for name, lost := range map[string]struct {
		how  func(w *world) bool
		why  error
		left bool // the record is there nevertheless
	}{
		"expired":     {func(w *world) bool { return w.Expire(cluster, "a") }, libcluster.ErrRecordGone, false},
		"deleted":     {func(w *world) bool { return w.Delete(cluster, "a") }, libcluster.ErrRecordGone, false},
		"stolen":      {func(w *world) bool { return w.Steal(cluster, "a") }, libcluster.ErrInstanceTaken, true},
		"overwritten": {func(w *world) bool { w.Put(cluster, "a", []byte("1")); return true }, libcluster.ErrRecordGone, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *world) {
				require.False(t, t.Expire(cluster, "a"))
				require.False(t, t.Steal(cluster, "a"))
				require.False(t, t.Delete(cluster, "a"))
				a := t.open("a", 1)
				require.Len(t, t.events(a), 2)
				require.True(t, lost.how(t))
				_, err := a.Next(t.Context())
				require.ErrorIs(t, err, lost.why)
				_, err = a.Renew(t.Context())
				require.ErrorIs(t, err, lost.why)
				require.ErrorIs(t, a.Update(t.Context(), libcluster.Member{ID: "a", Workers: 2}), lost.why)
				require.NoError(t, a.Leave(t.Context(), libcluster.Departure{}))
				require.Equal(t, lost.left, len(t.Members(cluster)) == 1)
			})
		})
	}
}

func TestStolenRecordExpiresToo(t *testing.T) {
	inBubble(t, func(t *world) {
		t.open("a", 1)
		t.Put(cluster, "b", []byte("2"))
		wait(9 * time.Second)
		require.True(t, t.Steal(cluster, "a"))
		require.True(t, t.Steal(cluster, "b"), "also one without a lease")
		wait(9 * time.Second)
		require.True(t, t.Holds(cluster, "a"))
		require.True(t, t.Holds(cluster, "b"))
		wait(time.Second)
		require.Empty(t, t.Members(cluster))
	})
}

func TestLeasesOfOneInstantExpireInTheirOrder(t *testing.T) {
	inBubble(t, func(t *world) {
		watcher, _, err := between.Join(t.Context(), t, libcluster.Registration{
			Key: "mailer", Env: "production", Passive: true, Member: libcluster.Member{ID: "w"},
		})
		require.NoError(t, err)
		require.Equal(t, []string{"all:"}, t.events(watcher))
		var want []string
		for _, id := range []string{"q", "c", "z", "a", "m"} {
			t.open(id, 1)
			want = append(want, id+" gone")
		}
		require.Len(t, t.events(watcher), len(want))
		wait(9*time.Second + 999*time.Millisecond)
		require.Len(t, t.Members(cluster), len(want))
		wait(time.Millisecond)
		require.Equal(t, want, t.events(watcher))
	})
}

func TestCompactHasEverybodyBeginAnew(t *testing.T) {
	inBubble(t, func(t *world) {
		a, b := t.open("a", 1), t.open("b", 2)
		require.Equal(t, []string{"all:", "a=1"}, t.events(a))
		require.Equal(t, []string{"b=2"}, t.events(a))
		require.Len(t, t.events(b), 3)
		t.Delete(cluster, "b")
		t.Put(cluster, "c", []byte("3"))
		t.Compact()
		require.Equal(t, []string{"all:", "a=1", "c=3"}, t.events(a))
		t.quiet(a)
		t.Compact()
		require.Equal(t, []string{"all:", "a=1", "c=3"}, t.events(a), "also who has missed nothing")
		_, err := b.Next(t.Context())
		require.ErrorIs(t, err, libcluster.ErrRecordGone)
	})
}

func TestSessionThatFellFarBehindBeginsAnew(t *testing.T) {
	inBubble(t, func(t *world) {
		a := t.open("a", 1)
		require.Len(t, t.events(a), 2)
		for n := range 50_000 {
			t.Put(cluster, "b", fmt.Append(nil, n+1))
		}
		require.Equal(t, []string{"all:", "a=1", "b=50000"}, t.events(a))
	})
}

func TestRestoreSetsTheStoreBack(t *testing.T) {
	inBubble(t, func(t *world) {
		a, b := t.open("a", 1), t.open("b", 1)
		require.Len(t, t.events(a), 2)
		require.Len(t, t.events(a), 1)
		require.Len(t, t.events(b), 3)
		before, revision := t.Snapshot(), t.Revision(cluster)
		c := t.open("c", 1)
		require.Equal(t, []string{"c=1"}, t.events(b)) // which a has not been told yet
		wait(5 * time.Second)
		t.Restore(before)
		require.Equal(t, revision, t.Revision(cluster))
		for _, session := range []libcluster.Session{b, c} {
			_, err := session.Renew(t.Context())
			require.ErrorIs(t, err, libcluster.ErrRegistryReset, "one that was told of what has never been")
		}
		_, err := b.Next(t.Context())
		require.ErrorIs(t, err, libcluster.ErrRegistryReset)
		require.Equal(t, []string{"all:", "a=1", "b=1"}, t.events(a), "one that knows nothing of it goes on")
		wait(8 * time.Second)
		require.True(t, t.Holds(cluster, "b"), "old leases begin their TTL anew")
		wait(2 * time.Second)
		require.Empty(t, t.Members(cluster), "and then expire")
		_, err = a.Renew(t.Context())
		require.ErrorIs(t, err, libcluster.ErrRecordGone)

		t.Restore(before)
		require.Len(t, t.Members(cluster), 2, "those that had expired are back")
		_, err = a.Renew(t.Context())
		require.ErrorIs(t, err, libcluster.ErrRegistryReset, "but not for a session that was told")
		t.Restore(libclustertest.Snapshot{})
		require.Empty(t, t.Members(cluster))
		require.EqualValues(t, 1, t.Revision(cluster), "where each begins")
	})
}

func TestRejoiningAfterARestoreTakesTheGhostOver(t *testing.T) {
	inBubble(t, func(t *world) {
		t.open("a", 1)
		before := t.Snapshot()
		again := registration("a", 2)
		membership, err := t.Enter(again)
		require.NoError(t, err)
		second, _, err := membership.Join(t.Context(), again.Member)
		require.NoError(t, err)
		t.Restore(before)
		_, err = second.Renew(t.Context())
		require.ErrorIs(t, err, libcluster.ErrRegistryReset)
		third, _, err := membership.Join(t.Context(), again.Member)
		require.NoError(t, err, "the lease of the ghost is nobody's")
		require.Equal(t, []string{"all:", "a=2"}, t.events(third))
	})
}

func TestPassiveSessionNoticesThatTheStoreWentBack(t *testing.T) {
	inBubble(t, func(t *world) {
		passive := registration("p", 1)
		passive.Passive = true
		p, ttl, err := between.Join(t.Context(), t, passive)
		require.NoError(t, err)
		require.Equal(t, 10*time.Second, ttl, "for how long to trust what was told")
		require.Len(t, t.events(p), 1)
		before := t.Snapshot()
		t.Put(cluster, "a", []byte("1"))
		require.Equal(t, []string{"a=1"}, t.events(p))
		t.Restore(before)
		_, err = p.Renew(t.Context())
		require.ErrorIs(t, err, libcluster.ErrRegistryReset)
		_, err = p.Next(t.Context())
		require.ErrorIs(t, err, libcluster.ErrRegistryReset)
		require.Error(t, p.Update(t.Context(), libcluster.Member{ID: "p", Workers: 1}))
		require.Empty(t, t.Members(cluster))
	})
}

func TestGrantedTTLMayDifferFromTheOneAskedFor(t *testing.T) {
	inBubble(t, func(t *world) {
		t.GrantTTL(time.Minute)
		a, granted, err := between.Join(t.Context(), t, registration("a", 1))
		require.NoError(t, err)
		require.Equal(t, time.Minute, granted)
		granted, err = a.Renew(t.Context())
		require.NoError(t, err)
		require.Equal(t, time.Minute, granted)
		wait(time.Minute - time.Nanosecond)
		require.True(t, t.Holds(cluster, "a"))
		wait(time.Nanosecond)
		require.False(t, t.Holds(cluster, "a"))
		t.GrantTTL(0)
		t.open("a", 1) // checks that it is granted what it asks for
	})
}

func TestCountsTellWhatInstancesHaveCost(t *testing.T) {
	inBubble(t, func(t *world) {
		a, b := t.open("a", 1), t.open("b", 1)
		require.Equal(t, libclustertest.Counts{Writes: 2, Reads: 2}, t.Counts())
		require.Len(t, t.events(a), 2)
		require.Len(t, t.events(a), 1)
		require.Equal(t, libclustertest.Counts{Writes: 2, Reads: 2, Deliveries: 1}, t.Counts())
		require.NoError(t, b.Update(t.Context(), libcluster.Member{ID: "b", Workers: 2}))
		_, err := b.Renew(t.Context())
		require.NoError(t, err)
		require.NoError(t, b.Leave(t.Context(), libcluster.Departure{}))
		require.NoError(t, b.Leave(t.Context(), libcluster.Departure{}))
		require.Equal(t, []string{"b=2", "b gone"}, t.events(a))
		t.Put(cluster, "c", nil)
		t.Delete(cluster, "c")
		t.Compact()
		require.Equal(t, []string{"all:", "a=1"}, t.events(a))
		require.Equal(t, libclustertest.Counts{Writes: 5, Reads: 3, Renewals: 1, Deliveries: 3}, t.Counts(), "a list is a write in direct mode")
		require.EqualValues(t, 8, t.Revision(cluster))
	})
}

// A request to join that was given up has its effect when a later one has succeeded,
// and its instance may act by then: nobody may be told that it has stopped.
func TestAttemptThatArrivesLateSaysNothingOfALaterOne(t *testing.T) {
	inBubble(t, func(t *world) {
		var requests []libclustertest.Call
		t.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			switch call.Op {
			case libclustertest.OpEnd: // so that the lease is there when the request is
				return errors.New("no answer")
			case libclustertest.OpJoin:
			default:
				return call.Send(ctx)
			}
			requests = append(requests, call)
			if len(requests) == 1 {
				return errors.New("no answer")
			}
			return call.Send(ctx)
		})
		attempt := registration("a", 1)
		attempt.Mode = libcluster.ModeExclusive
		membership, err := t.Enter(attempt)
		require.NoError(t, err)
		_, _, err = membership.Join(t.Context(), attempt.Member)
		require.Error(t, err)
		joined, _, err := membership.Join(t.Context(), attempt.Member)
		require.NoError(t, err)
		drained := func(s libcluster.Session) map[string]int64 {
			survey, err := s.(libcluster.Planner).Look(t.Context())
			require.NoError(t, err)
			return survey.Acknowledged
		}
		for _, late := range requests { // the second for the second time
			_ = late.Send(t.Context()) // it may say that its lease has ended
			_, err = joined.Renew(t.Context())
			require.NoError(t, err, "the record has changed since the late request was made")
			require.NotContains(t, drained(joined), joined.(libcluster.Planner).Incarnation())
		}
		again, _, err := membership.Join(t.Context(), attempt.Member)
		require.NoError(t, err)
		require.Contains(t, drained(again), joined.(libcluster.Planner).Incarnation(), "it has stopped before it rejoined")
	})
}
