package libcluster_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/kv/kvtest"
)

// swapped is a store in whose place another one is put: its watches go on in that one
// without a word, as those of etcd's client do.
type swapped struct {
	kv.Store
	to atomic.Bool
}

func (s *swapped) Open(ctx context.Context, name string) (kv.Space, error) {
	space, err := s.Store.Open(ctx, name)
	return swappedSpace{space, s}, err
}

type swappedSpace struct {
	kv.Space
	s *swapped
}

func (s swappedSpace) Watch(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
	w, err := s.Space.Watch(ctx, prefix, after)
	return swappedWatch{w, s.s}, err
}

type swappedWatch struct {
	kv.Watch
	s *swapped
}

func (w swappedWatch) Next(ctx context.Context) (kv.Changes, error) {
	changes, err := w.Watch.Next(ctx)
	if w.s.to.Load() {
		changes.Mark.Store = "another"
	}
	return changes, err
}

func TestWatchThatGoesOnInAnotherStoreIsNotedAsAReset(t *testing.T) {
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModeExclusive} {
		store := &swapped{Store: kvtest.NewMemory()}
		join := func(id string) libcluster.Session {
			session, _, err := between.Join(t.Context(), libcluster.OnStore(store), libcluster.Registration{
				Key: "k", Env: "e", Member: libcluster.Member{ID: id, Workers: 1}, Mode: mode, TTL: time.Hour, Logger: zap.NewNop(),
			})
			require.NoError(t, err)
			t.Cleanup(func() { session.Close() })
			return session
		}
		a := join("a")
		_, err := a.Next(t.Context())
		require.NoError(t, err)
		planner := a.(libcluster.Planner)
		survey, err := planner.Survey(t.Context(), 0)
		require.NoError(t, err)
		store.to.Store(true)
		b := join("b")
		_, err = planner.Survey(t.Context(), survey.Revision)
		require.ErrorIs(t, err, libcluster.ErrRegistryReset, "a survey")
		_, err = b.(libcluster.Planner).Claim(t.Context(), []byte("b")) // which Next tells of in each mode
		require.NoError(t, err)
		_, err = a.Next(t.Context())
		require.ErrorIs(t, err, libcluster.ErrRegistryReset, "Next")
	}
}

// losing is a store that keeps a commit to itself once, and can carry it out later.
type losing struct {
	kv.Store
	lost atomic.Pointer[context.CancelFunc] // of the caller of the commit to keep
	kept chan func() (kv.Result, error)
}

func newLosing() *losing {
	return &losing{Store: kvtest.NewMemory(), kept: make(chan func() (kv.Result, error), 1)}
}

// lose has the next commit kept, which do sends, and do's context ended then.
func (l *losing) lose(t *testing.T, do func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l.lost.Store(&cancel)
	require.Error(t, do(ctx))
}

func (l *losing) late() (kv.Result, error) { return (<-l.kept)() }

type losingSpace struct {
	kv.Space
	of *losing
}

func (l *losing) Open(ctx context.Context, name string) (kv.Space, error) {
	space, err := l.Store.Open(ctx, name)
	return &losingSpace{space, l}, err
}

func (s *losingSpace) Commit(ctx context.Context, tx kv.Tx) (kv.Result, error) {
	if giveUp := s.of.lost.Swap(nil); giveUp != nil {
		s.of.kept <- func() (kv.Result, error) { return s.Space.Commit(context.Background(), tx) }
		(*giveUp)()
		<-ctx.Done()
		return kv.Result{}, context.Cause(ctx)
	}
	return s.Space.Commit(ctx, tx)
}

// A request that was given up reaches the store when a later one has succeeded.
func TestAnOlderUpdateThatArrivesLateHasNoEffect(t *testing.T) {
	t.Parallel()
	for _, mode := range allModes {
		store := newLosing()
		c, err := libcluster.New(libcluster.Config{Key: "k", Env: "e", ID: "a", Mode: mode, TTL: time.Hour, Registry: libcluster.OnStore(store)})
		require.NoError(t, err)
		set := func(value string) func(context.Context) error {
			return func(ctx context.Context) error { return c.SetMetadata(ctx, map[string]string{"k": value}) }
		}
		require.NoError(t, c.Join(t.Context()))
		store.lose(t, set("old"))
		require.NoError(t, set("new")(t.Context()))
		done, err := store.late()
		require.NoError(t, err)
		require.False(t, done.Done, mode)
		require.NoError(t, set("newest")(t.Context()))

		// If it arrives first, the later one finds it and is not refused for that.
		store.lose(t, set("early"))
		_, err = store.late() // unless it has been tried again already
		require.NoError(t, err)
		require.NoError(t, set("last")(t.Context()))
		space, err := store.Store.Open(t.Context(), "k/e")
		require.NoError(t, err)
		found, _, err := space.Get(t.Context(), "a")
		require.NoError(t, err)
		m, err := libcluster.ParseMember("a", found.Value)
		require.NoError(t, err)
		require.Equal(t, "last", m.Metadata["k"])
		require.NoError(t, c.Leave(t.Context()))
	}
}

// Otherwise a coordinator would wait for what has stopped long since, and nobody would say so again.
func TestAnOlderAcknowledgementThatArrivesLateTakesNothingBack(t *testing.T) {
	store := newLosing()
	session, _, err := between.Join(t.Context(), libcluster.OnStore(store), libcluster.Registration{
		Key: "k", Env: "e", Member: libcluster.Member{ID: "a", Workers: 1}, Mode: libcluster.ModeCooperative, TTL: time.Hour, Logger: zap.NewNop(),
	})
	require.NoError(t, err)
	defer session.Close()
	a := session.(libcluster.Planner)
	claimed, err := a.Claim(t.Context(), []byte("a"))
	require.NoError(t, err)
	require.True(t, claimed)
	require.NoError(t, a.Swap(t.Context(), 0, []byte("plan")))
	survey, err := a.Survey(t.Context(), 0)
	require.NoError(t, err)
	revision := survey.Planning.Revision
	loses := func(generation int64, but string) {
		store.lose(t, func(ctx context.Context) error { return a.Acknowledge(ctx, revision, generation, but) })
	}
	arrives := func() bool {
		done, err := store.late()
		require.NoError(t, err)
		return done.Done
	}
	says := func() (int64, string) {
		survey, err := a.Survey(t.Context(), 0)
		require.NoError(t, err)
		return survey.Acknowledged[a.Incarnation()], survey.Remaining[a.Incarnation()]
	}
	for generation := range int64(3) {
		generation++ // of 0 is what it has written as it joined
		loses(generation, "1-4")
		require.NoError(t, a.Acknowledge(t.Context(), revision, generation, "3"))
		require.False(t, arrives())
		require.NoError(t, a.Acknowledge(t.Context(), revision, generation, "1-4"), "it is sent again, and that is late too")
		noted, but := says()
		require.Equal(t, generation, noted)
		require.Equal(t, "3", but)
	}
	// If it arrives first, the later one finds it.
	loses(3, "1-4")
	require.True(t, arrives())
	require.NoError(t, a.Acknowledge(t.Context(), revision, 3, ""))
	_, but := says()
	require.Empty(t, but)
	require.NoError(t, a.Swap(t.Context(), revision, []byte("next")))
	require.ErrorIs(t, a.Acknowledge(t.Context(), revision, 4, "5"), libcluster.ErrPlanChanged)
}

// The record is looked at in each heartbeat, and read when another version is there.
func TestRecordThatIsOverwrittenUnderItsLeaseIsFoundByTheNextHeartbeat(t *testing.T) {
	for _, mode := range allModes[1:] {
		store := kvtest.NewMemory()
		session, _, err := between.Join(t.Context(), libcluster.OnStore(store), libcluster.Registration{
			Key: "k", Env: "e", Member: libcluster.Member{ID: "a", Workers: 1}, Mode: mode, TTL: time.Hour, Logger: zap.NewNop(),
		})
		require.NoError(t, err)
		defer session.Close()
		renew := func() error {
			_, err := session.Renew(t.Context())
			return err
		}
		require.NoError(t, renew())
		require.NoError(t, renew())
		space, err := store.Open(t.Context(), "k/e")
		require.NoError(t, err)
		defer space.Close()
		own, _, err := space.Get(t.Context(), "a")
		require.NoError(t, err)
		own.Value = []byte("garbage")
		_, err = space.Commit(t.Context(), kv.Tx{Put: []kv.Record{own}})
		require.NoError(t, err)
		require.ErrorIs(t, renew(), libcluster.ErrRecordGone)
	}
}
