package dirstore_test

import (
	"context"
	"flag"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/internal/testhost"
	"github.com/libcluster/libcluster/internal/teststore"
	"github.com/libcluster/libcluster/kv"
)

// watchdog ends a test that does not come to its end.
const watchdog = 30 * time.Second

func TestMain(m *testing.M) {
	testhost.Parallel(32)
	flag.Parse()
	if role := os.Getenv(roleVariable); role != "" {
		play(role)
		return
	}
	goleak.VerifyTestMain(m)
}

func shm(t testing.TB) string { return teststore.Folder(t) }

// patience is for what must happen.
func patience(t testing.TB) context.Context { return teststore.Patience(t) }

func open(t testing.TB, store *dirstore.Store) kv.Space {
	t.Helper()
	space, err := store.Open(patience(t), "space")
	require.NoError(t, err)
	t.Cleanup(func() { space.Close() })
	return space
}

func randomOwner() kv.Owner { return teststore.Owner() }

func begin(t testing.TB, space kv.Space, ttl time.Duration) kv.Owner {
	t.Helper()
	owner := randomOwner()
	_, err := space.Begin(patience(t), owner, ttl)
	require.NoError(t, err)
	return owner
}

func put(t testing.TB, space kv.Space, key, value string, owner kv.Owner) int64 {
	t.Helper()
	result, err := space.Commit(patience(t), kv.Tx{Put: []kv.Record{{Key: key, Value: []byte(value), Owner: owner}}})
	require.NoError(t, err)
	require.True(t, result.Done)
	return result.Mark.Revision
}

func get(t testing.TB, space kv.Space, key string) kv.Record {
	t.Helper()
	r, _, err := space.Get(patience(t), key)
	require.NoError(t, err)
	return r
}

// count adds one to the number in a record, and returns what it has become.
func count(ctx context.Context, space kv.Space, key string) (int, error) {
	for {
		r, _, err := space.Get(ctx, key)
		if err != nil {
			return 0, err
		}
		n, _ := strconv.Atoi(string(r.Value))
		result, err := space.Commit(ctx, kv.Tx{
			If:  []kv.Cond{kv.AtVersion(key, r.Version)},
			Put: []kv.Record{{Key: key, Value: []byte(strconv.Itoa(n + 1))}},
		})
		if err != nil || result.Done {
			return n + 1, err
		}
	}
}
