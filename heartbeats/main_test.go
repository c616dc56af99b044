package heartbeats_test

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/libcluster/libcluster/internal/testhost"
	"github.com/libcluster/libcluster/internal/teststore"
	"github.com/libcluster/libcluster/kv"
)

// watchdog ends a test that does not come to its end.
const watchdog = 2 * time.Minute

func TestMain(m *testing.M) {
	testhost.Parallel(12)
	flag.Parse()
	if role := os.Getenv(roleVariable); role != "" {
		play(role)
		return
	}
	goleak.VerifyTestMain(m)
}

func shm(t testing.TB) string { return teststore.Folder(t) }

func patience(t testing.TB) context.Context { return teststore.Patience(t) }

func randomOwner() kv.Owner { return teststore.Owner() }

// join opens a space and begins a lease with a record, as an instance does.
func join(t testing.TB, store kv.Store, key string, ttl time.Duration) (kv.Space, kv.Owner) {
	t.Helper()
	space, err := store.Open(patience(t), "space")
	require.NoError(t, err)
	t.Cleanup(func() { space.Close() })
	owner := randomOwner()
	_, err = space.Begin(patience(t), owner, ttl)
	require.NoError(t, err)
	result, err := space.Commit(patience(t), kv.Tx{Put: []kv.Record{{Key: key, Owner: owner}}})
	require.NoError(t, err)
	require.True(t, result.Done)
	return space, owner
}
