package sqlstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/libcluster/libcluster/kv"
)

// Guard has a transaction of the application's own, in the database of this store, depend
// on the plan that gave an instance its assignment:
//
//	state := cluster.State()
//	fence, err := cluster.StoreFence(state)
//	…
//	tx, err := db.BeginTx(ctx, nil)
//	…
//	err = store.Guard(ctx, tx, fence)
//
// If the plan is another one by now the error wraps [kv.ErrFenced], and tx must be rolled
// back. If the error is nil the plan stays until tx ends: another plan waits for that. So
// what tx does is done before any instance can act under the next plan, or not at all,
// however long the process was stopped between any two of these lines. After any other error
// tx must be rolled back, too, and may be tried again.
//
// Since changes of the cluster wait for tx, it should be short. Guard it once, before it
// changes rows that transactions of other instances change, too. PostgreSQL ends a guarded
// transaction from which nothing has come for ten seconds. MariaDB and MySQL do so if
// idle_transaction_timeout or wait_timeout says it. In SQLite nobody else can write from
// Guard to the end of tx; without a busy_timeout Guard fails at once while another writes.
//
// The database user needs the permission to update the tables of the store. Any goroutine
// may call Guard.
func (s *Store) Guard(ctx context.Context, tx *sql.Tx, f kv.Fence) error {
	if f.Key == "" {
		return fmt.Errorf("guarding a transaction: %w: it is an empty one", kv.ErrFenced)
	}
	if s.lang.gate != "" {
		// Without arguments drivers send several statements as they are.
		gate := strings.ReplaceAll(s.expand(s.lang.gate), "%x", hex.EncodeToString([]byte(f.Space)))
		if _, err := tx.ExecContext(ctx, gate); err != nil {
			return fmt.Errorf("guarding a transaction: %w", err)
		}
	}
	var now kv.Mark
	err := tx.QueryRowContext(ctx, s.expand(`SELECT (SELECT id{timeline} FROM {store}), version FROM {record} WHERE space = ? AND name = ? {share}`),
		[]byte(f.Space), []byte(f.Key)).Scan(&now.Store, &now.Revision)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("guarding a transaction: %w: the record has gone", kv.ErrFenced)
	case err != nil:
		return fmt.Errorf("guarding a transaction: %w", err)
	case now != f.Mark:
		return fmt.Errorf("guarding a transaction: %w: the record is of %v, and was of %v", kv.ErrFenced, now, f.Mark)
	case f.Member == "":
		return nil
	}
	var owner int64
	err = tx.QueryRowContext(ctx, s.expand(`SELECT owner FROM {record} WHERE space = ? AND name = ? {share}`),
		[]byte(f.Space), []byte(f.Member)).Scan(&owner)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("guarding a transaction: %w: the record of %q has gone", kv.ErrFenced, f.Member)
	case err != nil:
		return fmt.Errorf("guarding a transaction: %w", err)
	case kv.Owner(owner) != f.Owner:
		return fmt.Errorf("guarding a transaction: %w: the record of %q is another one's", kv.ErrFenced, f.Member)
	}
	return nil
}
