//go:build databases

package sqlstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

// There was a number up to MariaDB 11. A newer one has a word.
func TestServerSaysInAnyFormThatItIsReadOnly(t *testing.T) {
	db := onMariaDB.db(t)
	for value, writes := range map[string]bool{"0": true, "'OFF'": true, "1": false, "'ON'": false, "'NO_LOCK'": false, "'NO_LOCK_NO_ADMIN'": false} {
		t.Run(value, func(t *testing.T) {
			store := sqlstore.MySQL(db)
			store.ReadOnlyIs(value)
			space := open(t, store)
			_, err := space.Begin(patience(t), randomOwner(), long)
			_, _, got := space.Get(patience(t), "k")
			if writes {
				require.NoError(t, err)
				require.NoError(t, got)
			} else {
				require.ErrorContains(t, err, "the server is read-only")
				require.ErrorContains(t, got, "the server is read-only")
			}
		})
	}
}

func TestConnectionsThatDoNotEndTransactionsAreRefused(t *testing.T) {
	for parameter, named := range map[string]string{"autocommit=0": "autocommit = 0", "completion_type=1": "completion_type = CHAIN"} {
		t.Run(parameter, func(t *testing.T) {
			_, err := sqlstore.MySQL(testsql.Open(t, "mysql", testsql.MariaDB(t)+"?"+parameter)).Open(patience(t), "space")
			require.ErrorIs(t, err, kv.ErrRefused)
			require.ErrorContains(t, err, named)
		})
	}
}
