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
		next(t, a)
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
