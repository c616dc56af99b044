package dirstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/kv/kvtest"
)

func conforms(t *testing.T, open func(t *testing.T) kv.Store) {
	t.Helper()
	kvtest.Run(t, kvtest.Harness{
		Open: open,
		Forget: func(t *testing.T, store kv.Store, space string) {
			require.NoError(t, store.(*dirstore.Store).Forget(t.Context(), space))
		},
	})
}

func TestFolderIsAStore(t *testing.T) {
	t.Parallel()
	conforms(t, func(t *testing.T) kv.Store { return dirstore.Dir(t.TempDir()) })
}

func TestFolderInMemoryIsAStore(t *testing.T) {
	t.Parallel()
	conforms(t, func(t *testing.T) kv.Store { return dirstore.Dir(shm(t)) })
}

func TestFolderOnANetworkIsAStore(t *testing.T) {
	t.Parallel()
	conforms(t, func(t *testing.T) kv.Store {
		store := dirstore.Dir(shm(t)) // on a busy disk to sync takes long
		store.Network = true
		return store
	})
}
