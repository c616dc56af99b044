package heartbeats_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/heartbeats"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/kv/kvtest"
)

// slow is a store whose answers to Begin take their time.
type slow struct {
	kv.Store
	begun, answer chan struct{}
}

func (s slow) Open(ctx context.Context, name string) (kv.Space, error) {
	space, err := s.Store.Open(ctx, name)
	return slowSpace{space, s}, err
}

type slowSpace struct {
	kv.Space
	of slow
}

func (s slowSpace) Begin(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
	granted, err := s.Space.Begin(ctx, owner, ttl)
	close(s.of.begun)
	<-s.of.answer
	return granted, err
}

// An instance that joins sends its record beside the lease.
func TestWhatIsWrittenBesideALeaseThatBeginsSaysHowItIsHeard(t *testing.T) {
	const owner = kv.Owner(7)
	memory := slow{kvtest.NewMemory(), make(chan struct{}), make(chan struct{})}
	space, err := heartbeats.Beside(memory, heartbeats.Config{Bind: "127.0.0.1:0"}).Open(t.Context(), "company/production")
	require.NoError(t, err)
	defer func() { require.NoError(t, space.Close()) }()
	begun := make(chan error, 1)
	go func() {
		_, err := space.Begin(t.Context(), owner, time.Hour)
		begun <- err
	}()
	<-memory.begun
	write := kv.Tx{Put: []kv.Record{{Key: "a", Owner: owner}}}
	_, err = space.Commit(t.Context(), write)
	require.ErrorIs(t, err, kv.ErrEnded, "nobody knows yet how it will be heard")
	close(memory.answer)
	require.NoError(t, <-begun)
	done, err := space.Commit(t.Context(), write)
	require.NoError(t, err)
	require.True(t, done.Done)

	inside, err := memory.Store.Open(t.Context(), "company/production")
	require.NoError(t, err)
	records := 0
	_, err = inside.List(t.Context(), "", func(r kv.Record) error {
		require.Equal(t, owner, r.Owner)
		records++
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, records)
}
