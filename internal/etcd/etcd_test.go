package etcd_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/etcd"
	"github.com/libcluster/libcluster/internal/testetcd"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/kv/kvtest"
)

func TestMain(m *testing.M) { testetcd.Main(m) }

// spaces opens each space on a client of its own, as the registry does.
type spaces struct{ t *testing.T }

func (s spaces) Open(_ context.Context, name string) (kv.Space, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{testetcd.URL(s.t)}, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	return etcd.Open(etcd.Config{
		Client: client, Owned: true, Prefix: "/" + name + "/", Timeout: testetcd.Patience, Silence: testetcd.Patience,
		Shared: &etcd.Shared{}, Log: zap.NewNop(),
	}), nil
}

// Otherwise an instance that is refused would have been a member for a moment.
func TestNothingIsWrittenUntilItIsKnownWhatTheUserMayWrite(t *testing.T) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{testetcd.URL(t)}, Logger: zap.NewNop()})
	require.NoError(t, err)
	space := etcd.Open(etcd.Config{
		Client: client, Owned: true, Prefix: "/" + t.Name() + "/", Timeout: testetcd.Patience, Silence: testetcd.Patience,
		MayWrite: []string{"plan"}, Shared: &etcd.Shared{}, Log: zap.NewNop(),
	})
	defer space.Close()
	tx := kv.Tx{Put: []kv.Record{{Key: "a", Owner: 1 << 40}}}
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = space.Commit(soon, tx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	found, _, err := space.Get(t.Context(), "a")
	require.NoError(t, err)
	require.Zero(t, found.Version)
	_, err = space.Begin(t.Context(), 1<<40, time.Minute)
	require.NoError(t, err)
	done, err := space.Commit(t.Context(), tx)
	require.NoError(t, err)
	require.True(t, done.Done)
	require.NoError(t, space.End(t.Context(), 1<<40))
}

func TestEtcdIsAStore(t *testing.T) {
	kvtest.Run(t, kvtest.Harness{
		Open:     func(t *testing.T) kv.Store { return spaces{t} },
		TTL:      5 * time.Second,
		Patience: testetcd.Patience,
		Nests:    true,
	})
}
