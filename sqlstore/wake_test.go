package sqlstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

func TestWatchRestsLongerWhileItHearsButNotPastTheEndOfALease(t *testing.T) {
	store := sqlstore.SQLite(nil)
	const poll = sqlstore.DefaultPoll
	require.Equal(t, poll, store.Pause(false, false, 0))
	require.Equal(t, 5*poll, store.Pause(true, false, 0))
	for range 100 {
		require.Equal(t, poll, store.Pause(false, true, time.Hour))
		require.Equal(t, 5*poll, store.Pause(true, true, time.Hour))
		require.Less(t, store.Pause(true, true, -time.Hour), poll)
		require.GreaterOrEqual(t, store.Pause(true, true, poll), poll)
		require.Less(t, store.Pause(true, true, poll), 2*poll)
	}
}

func TestDatabaseThatTellsOfNothingHasNoWake(t *testing.T) {
	store := sqlstore.SQLite(onSQLite.db(t))
	store.Wake = func(context.Context, sqlstore.Listening) {}
	_, err := store.Open(patience(t), "space")
	require.ErrorIs(t, err, kv.ErrRefused)
	require.ErrorContains(t, err, "Wake")
}

func TestLookHasWatchesSeeWhatAnotherProcessHasChanged(t *testing.T) {
	t.Parallel()
	db := onSQLite.db(t)
	store, other := sqlstore.SQLite(db), sqlstore.SQLite(db)
	store.Poll = time.Hour
	store.Look("space") // which nobody has opened
	space, err := store.Open(patience(t), "space")
	require.NoError(t, err)
	defer space.Close()
	w, err := space.Watch(patience(t), "", 0)
	require.NoError(t, err)
	defer w.Close()
	changer, err := other.Open(patience(t), "space")
	require.NoError(t, err)
	defer changer.Close()
	ctx := patience(t)
	for range 20 { // Next may have looked only after the commit
		seen := make(chan error, 1)
		go func() {
			_, err := w.Next(ctx)
			seen <- err
		}()
		_, err := changer.Commit(patience(t), kv.Tx{Put: []kv.Record{{Key: "k"}}})
		require.NoError(t, err)
		for waits := true; waits; {
			store.Look("space") // it may not wait yet
			select {
			case err := <-seen:
				require.NoError(t, err)
				waits = false
			case <-time.After(time.Millisecond):
			}
		}
	}
}
