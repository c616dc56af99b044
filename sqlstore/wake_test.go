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
