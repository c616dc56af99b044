package sqlstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/kv/kvtest"
	"github.com/libcluster/libcluster/sqlstore"
)

func conforms(t *testing.T, open func(t *testing.T) kv.Store) {
	t.Helper()
	kvtest.Run(t, kvtest.Harness{
		Open: open,
		Forget: func(t *testing.T, store kv.Store, space string) {
			require.NoError(t, store.(*sqlstore.Store).Forget(t.Context(), space))
		},
	})
}

func TestSQLiteIsAStore(t *testing.T) {
	t.Parallel()
	conforms(t, func(t *testing.T) kv.Store { return sqlstore.SQLite(onSQLite.db(t)) })
}
