package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// cluster is the one that the apps of these tests join.
const cluster = "mailer/production"

// memory is a bubble's test, the registry in memory, and the applications that use it.
type memory struct {
	*testing.T
	*libclustertest.Registry
}

// inMemory runs a test in a bubble. Goroutines that the test leaves behind
// deadlock there, and fail it.
func inMemory(t *testing.T, test func(w *memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(&memory{t, libclustertest.New()}) })
}

// application is one: an instance, and what it has been told.
type application struct {
	*libcluster.Cluster
	w *memory

	mu      sync.Mutex // guards what follows
	during  func(libcluster.State)
	calls   []call
	running bool
	overlap bool
}

// call is one callback.
type call struct {
	libcluster.State
	at time.Time
}

// app makes an application that has not joined yet.
func (w *memory) app(id string, configure ...func(*libcluster.Config)) *application {
	w.Helper()
	a := &application{w: w}
	cfg := libcluster.Config{Key: "mailer", ID: id, Registry: w.Registry, OnRebalance: a.onRebalance}
	for _, c := range configure {
		c(&cfg)
	}
	var err error
	a.Cluster, err = libcluster.New(cfg)
	require.NoError(w, err)
	return a
}

// join makes an application that has joined, and leaves when the test ends.
func (w *memory) join(id string, configure ...func(*libcluster.Config)) *application {
	w.Helper()
	a := w.app(id, configure...)
	require.NoError(w, a.Join(w.Context()))
	w.Cleanup(func() {
		w.Intercept(nil)
		w.HealAll()
		_ = a.Leave(w.within(time.Hour)) // again, in many tests
	})
	synctest.Wait()
	return a
}

func workers(n int) func(*libcluster.Config) {
	return func(c *libcluster.Config) { c.Workers = n }
}

func ttl(d time.Duration) func(*libcluster.Config) {
	return func(c *libcluster.Config) { c.TTL = d }
}

func (a *application) onRebalance(s libcluster.State) {
	a.mu.Lock()
	a.overlap = a.overlap || a.running
	a.running = true
	a.calls = append(a.calls, call{s, time.Now()})
	during := a.during
	a.mu.Unlock()
	if during != nil {
		during(s)
	}
	a.mu.Lock()
	a.running = false
	a.mu.Unlock()
}

// inCallback has f run in each callback from now on, after it has been noted.
func (a *application) inCallback(f func(libcluster.State)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.during = f
}

// told returns all callbacks so far.
func (a *application) told() []call {
	a.mu.Lock()
	defer a.mu.Unlock()
	require.False(a.w, a.overlap, "two callbacks ran at the same time")
	return append([]call(nil), a.calls...)
}

// last returns the latest callback.
func (a *application) last() call {
	told := a.told()
	require.NotEmpty(a.w, told)
	return told[len(told)-1]
}

// story is what an app has been told, as "0/3" for index 0 of a total of 3.
func (a *application) story() string {
	var b strings.Builder
	for _, c := range a.told() {
		fmt.Fprintf(&b, " %d/%d", c.Index, c.Total)
	}
	return strings.TrimSpace(b.String())
}

// place is the app's state as story has it.
func (a *application) place() string {
	s := a.State()
	return fmt.Sprintf("%d/%d", s.Index, s.Total)
}

// gone has a call hang until its context ends.
func gone(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// within returns a context that ends after d.
func (w *memory) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	w.Cleanup(cancel)
	return ctx
}

func TestJoinReturnsAfterTheFirstCallback(t *testing.T) {
	inMemory(t, func(t *memory) {
		start := time.Now()
		a := t.app("a", workers(2))
		a.inCallback(func(libcluster.State) { time.Sleep(3 * time.Second) })
		require.NoError(t, a.Join(t.Context()))
		require.Equal(t, 3*time.Second, time.Since(start), "Join waits for the first callback to return")
		require.Equal(t, "0/2", a.story())
		require.True(t, a.State().Primary())
		require.NoError(t, a.Err())
		a.inCallback(nil)
		require.NoError(t, a.Leave(t.Context()))
		require.Equal(t, "0/2 -1/0", a.story())
	})
}

func TestFailedJoinLeavesNothingBehind(t *testing.T) {
	inMemory(t, func(t *memory) {
		t.CutAll()
		start := time.Now()
		a := t.app("a")
		err := a.Join(t.within(7 * time.Second))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, cluster)
		require.Equal(t, 7*time.Second, time.Since(start))
		t.HealAll()
		wait(time.Hour)
		require.Empty(t, t.Members(cluster))
		require.Empty(t, a.told(), "who has never joined has nothing to be told")
		require.ErrorIs(t, a.Err(), libcluster.ErrLeft)
	})
}

func TestJoinAfterAFailedJoin(t *testing.T) {
	inMemory(t, func(t *memory) {
		t.CutAll()
		a := t.app("a")
		require.Error(t, a.Join(t.within(time.Second)))
		t.HealAll()
		require.NoError(t, a.Join(t.Context()))
		require.Equal(t, "0/1", a.story())
		require.NoError(t, a.Leave(t.Context()))
	})
}

func TestJoinKeepsTryingWhileTheRegistryDoesNotAnswer(t *testing.T) {
	inMemory(t, func(t *memory) {
		t.CutAll()
		joined := make(chan error, 1)
		a := t.app("a")
		go func() { joined <- a.Join(t.Context()) }()
		wait(time.Hour)
		require.Empty(t, joined)
		t.HealAll()
		start := time.Now()
		require.NoError(t, <-joined)
		require.Less(t, time.Since(start), 2*time.Second, "how soon after the outage Join returned")
		require.NoError(t, a.Leave(t.Context()))
	})
}

func TestPermanentErrorEndsJoinAtOnce(t *testing.T) {
	inMemory(t, func(t *memory) {
		refused := errors.New("wrong password")
		t.Intercept(func(context.Context, libclustertest.Call) error { return libcluster.Permanent(refused) })
		start := time.Now()
		a := t.app("a")
		require.ErrorIs(t, a.Join(t.Context()), refused)
		require.Zero(t, time.Since(start))
		t.Intercept(nil)
		require.NoError(t, a.Join(t.Context()))
		require.NoError(t, a.Leave(t.Context()))
	})
}

func TestTotalThatOverflowsIsRefusedAtJoin(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a", workers(libcluster.MaxWorkers))
		b := t.app("b", workers(libcluster.MaxWorkers))
		err := b.Join(t.Context())
		require.ErrorContains(t, err, "total would be 4294967294, must be at most 2147483647")
		require.Empty(t, b.told())
		synctest.Wait()
		require.Len(t, t.Members(cluster), 1, "who was refused leaves no record")
		require.Equal(t, "0/2147483647", a.place())
	})
}

func TestCallbacksAreNeverConcurrentAndSkipTheStatesInBetween(t *testing.T) {
	inMemory(t, func(t *memory) {
		a := t.join("a")
		a.inCallback(func(libcluster.State) { time.Sleep(5 * time.Second) })
		t.join("b")
		start := time.Now()
		for n := range 20 { // while a's callback of b runs
			t.join(fmt.Sprintf("c%d", n))
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, "0/22", a.place(), "State does not wait for callbacks")
		require.Equal(t, "0/1 0/2", a.story())
		wait(10 * time.Second)
		require.Equal(t, "0/1 0/2 0/22", a.story(), "the newest state and none in between")
		require.Equal(t, 5*time.Second, a.last().at.Sub(start), "told as soon as the slow callback has returned")
		a.inCallback(nil)
	})
}

func TestSlowCallbackHoldsUpNoHeartbeatAndNobodyElse(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, z := t.join("a"), t.join("z")
		a.inCallback(func(libcluster.State) { time.Sleep(time.Minute) })
		b := t.join("b")
		require.Equal(t, "1/3", b.story())
		require.Equal(t, "1/2 2/3", z.story(), "others are told meanwhile")
		before := t.Counts().Renewals
		for range 59 {
			wait(time.Second)
			require.True(t, a.State().Active(), "a slow callback delays no heartbeat")
			require.True(t, t.Holds(cluster, "a"))
		}
		require.Greater(t, t.Counts().Renewals-before, 100, "three instances in a minute")
		a.inCallback(nil)
		wait(time.Minute)
	})
}

func TestCallbackComesOnlyWhenItsStateHasChanged(t *testing.T) {
	inMemory(t, func(t *memory) {
		a, m, z := t.join("a"), t.join("m"), t.join("z")
		p := t.join("p", passive)
		generation := m.State().Generation
		t.Put(cluster, "n", []byte("2"))
		synctest.Wait()
		require.Equal(t, "0/1 0/2 0/3 0/5", a.story())
		require.Equal(t, "1/2 1/3 1/5", m.story())
		require.Equal(t, "2/3 4/5", z.story())
		require.Equal(t, "-1/3 -1/5", p.story())

		// What nobody's place depends on.
		t.Put(cluster, "n", []byte("2"))
		t.Put(cluster, "n", []byte(`{"workers":2,"address":"192.0.2.1:80"}`))
		t.Put(cluster, "garbage", []byte("?"))
		t.Put("mailer/test", "n", []byte("9"))
		t.Put("mailer/shard/production", "n", []byte("9"))
		t.Compact()
		wait(time.Hour)
		require.Len(t, a.told(), 4)
		require.Len(t, m.told(), 3)
		require.Len(t, z.told(), 2)
		require.Len(t, p.told(), 2)
		require.Greater(t, m.State().Generation, generation, "the state is newer than what was worth a callback")
		require.Equal(t, "192.0.2.1:80", m.Members()[2].Address)

		// A change that shifts z's base and not m's is news to both: the total.
		t.Put(cluster, "n", []byte("1"))
		synctest.Wait()
		require.Equal(t, "3/4", z.story()[len(z.story())-3:])
		require.Equal(t, "1/4", m.story()[len(m.story())-3:])
		for n := 1; n < len(z.told()); n++ {
			was, is := z.told()[n-1].State, z.told()[n].State
			was.Generation, is.Generation = 0, 0
			was.Deadline, is.Deadline = time.Time{}, time.Time{}
			require.NotEqual(t, was, is, "a callback with nothing new")
		}
	})
}

func TestNothingIsWrittenWhileNothingChanges(t *testing.T) {
	inEveryMode(t, func(t *memory, in func(*libcluster.Config)) {
		for n := range 10 {
			t.join(fmt.Sprint(n), in)
		}
		wait(time.Minute) // the last plan is made, and has been looked at
		before, revision := t.Counts(), t.Revision(cluster)
		wait(10 * time.Minute)
		after := t.Counts()
		require.Equal(t, before.Writes, after.Writes)
		if t.Plan(cluster) == "" {
			require.Equal(t, before.Reads, after.Reads)
		} else { // the coordinator looks whether all is covered
			require.LessOrEqual(t, after.Reads-before.Reads, 10*12+1)
		}
		require.Equal(t, before.Deliveries, after.Deliveries)
		require.Equal(t, revision, t.Revision(cluster))
		// One renewal each 8th to 6th of the TTL.
		perMember := float64(10 * time.Minute / libcluster.DefaultTTL)
		require.InDelta(t, 10*7*perMember, after.Renewals-before.Renewals, 10*perMember)
	})
}

func TestPassiveInstanceSeesTheClusterAndWritesNothing(t *testing.T) {
	inMemory(t, func(t *memory) {
		t.join("a", workers(2))
		before := t.Counts().Writes
		p := t.join("p", passive)
		require.Equal(t, "-1/2", p.story())
		require.NoError(t, p.Err())
		b := t.join("b", workers(3))
		require.NoError(t, b.Leave(t.Context()))
		synctest.Wait()
		wait(time.Hour)
		require.Equal(t, "-1/2", p.place())
		require.Len(t, p.Members(), 1)
		require.Error(t, p.SetWorkers(t.Context(), 2))
		require.NoError(t, p.Leave(t.Context()))
		require.Equal(t, before+2, t.Counts().Writes, "only b's joining and leaving")
	})
}
