//go:build databases

package sqlstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

// PgBouncer in transaction mode has a statement be executed where it was not prepared.
func TestStatementThatIsNotPreparedAnyMoreIsRefusedWithAdvice(t *testing.T) {
	db := onPostgres.db(t)
	space := open(t, sqlstore.Postgres(db))
	put(t, space, "k", 0)
	exec(t, db, "DEALLOCATE ALL") // in the connection that was used last
	_, err := space.Commit(patience(t), kv.Tx{Put: []kv.Record{{Key: "k"}}})
	require.ErrorIs(t, err, kv.ErrRefused)
	require.ErrorContains(t, err, "default_query_exec_mode=exec")
}

func TestStatementModeOfPgBouncerIsRefusedWithAdvice(t *testing.T) {
	db := onPostgres.db(t)
	space := open(t, sqlstore.Postgres(db))
	exec(t, db, `CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN
RAISE EXCEPTION 'transaction blocks not allowed in statement pooling mode' USING ERRCODE = '08P01'; END $$ LANGUAGE plpgsql`)
	exec(t, db, `CREATE TRIGGER refuse BEFORE UPDATE ON libcluster_space EXECUTE FUNCTION refuse()`)
	_, err := space.Commit(patience(t), kv.Tx{Put: []kv.Record{{Key: "k"}}})
	require.ErrorIs(t, err, kv.ErrRefused)
	require.ErrorContains(t, err, "pool_mode = session or transaction")
}
