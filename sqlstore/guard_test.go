package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/teststore"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/sqlstore"
)

const plan = "/p/plan"

// guardedOnce begins a transaction that depends on a fence.
func guardedOnce(ctx context.Context, db *sql.DB, store *sqlstore.Store, f kv.Fence) (*sql.Tx, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	if err := store.Guard(ctx, tx, f); err != nil {
		_ = tx.Rollback() // the error that counts is the first
		return nil, err
	}
	return tx, nil
}

// guarded tries again what may be tried again, as when another transaction writes to SQLite.
func guarded(ctx context.Context, db *sql.DB, store *sqlstore.Store, fence kv.Fence) (*sql.Tx, error) {
	for {
		tx, err := guardedOnce(ctx, db, store, fence)
		if err == nil || errors.Is(err, kv.ErrFenced) || ctx.Err() != nil {
			return tx, err
		}
	}
}

// fenced puts the plan, and returns the fence of that.
func fenced(t *testing.T, space kv.Space) kv.Fence {
	t.Helper()
	return kv.Fence{Space: "space", Key: plan, Mark: put(t, space, plan, 0)}
}

func TestNextPlanIsNotStarvedByGuardedTransactions(t *testing.T) {
	t.Parallel()
	on(t, servers, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		space := open(t, store)
		fence := fenced(t, space)
		ctx := patience(t)
		begun := make(chan struct{}, 1000)
		all, ctx := errgroup.WithContext(ctx)
		for range 20 {
			all.Go(func() error {
				for {
					tx, err := guarded(ctx, db, store, fence)
					if err != nil {
						return err
					}
					select {
					case begun <- struct{}{}:
					default:
					}
					time.Sleep(20 * time.Millisecond) // its work
					if err := tx.Commit(); err != nil {
						return err
					}
				}
			})
		}
		<-begun
		put(t, space, plan, 0)
		require.ErrorIs(t, all.Wait(), kv.ErrFenced)
	})
}

func TestNextPlanWaitsForAGuardedTransaction(t *testing.T) {
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		space := open(t, store)
		fence := fenced(t, space)
		tx, err := guarded(patience(t), db, store, fence)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err = space.Commit(ctx, kv.Tx{Put: []kv.Record{{Key: plan}}})
		require.ErrorIs(t, err, context.DeadlineExceeded, "it has not waited")
		require.NoError(t, tx.Commit())
		put(t, space, plan, 0)
		_, err = guarded(patience(t), db, store, fence)
		require.ErrorIs(t, err, kv.ErrFenced)
	})
}

// Each guarded transaction looks which plan was acted under before it, and none may find a
// later one than its own.
func TestGuardedTransactionsAreInTheOrderOfTheirPlans(t *testing.T) {
	t.Parallel()
	const plans, workers = 30, 4
	on(t, servers, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		exec(t, db, `CREATE TABLE latest (generation BIGINT NOT NULL, acts BIGINT NOT NULL)`)
		exec(t, db, `INSERT INTO latest VALUES (0, 0)`)
		space := open(t, store)
		all, ctx := errgroup.WithContext(patience(t))
		var acted atomic.Int64
		for generation := range plans {
			fence := fenced(t, space)
			first := make(chan struct{}, 1)
			for range workers {
				all.Go(func() error {
					for {
						n, err := actUnder(ctx, db, store, fence, generation)
						switch {
						case errors.Is(err, kv.ErrFenced):
							return nil
						case err == nil && n == 1:
							acted.Add(1)
							select {
							case first <- struct{}{}:
							default:
							}
						case err == nil:
							return fmt.Errorf("generation %d has found a later one", generation)
						case ctx.Err() != nil:
							return err
						}
					}
				})
			}
			select {
			case <-first:
			case <-ctx.Done():
				require.NoError(t, all.Wait())
			}
		}
		put(t, space, plan, 0)
		require.NoError(t, all.Wait())
		require.GreaterOrEqual(t, acted.Load(), int64(plans))
	})
}

// actUnder returns how many rows were of no later generation.
func actUnder(ctx context.Context, db *sql.DB, store *sqlstore.Store, f kv.Fence, generation int) (int64, error) {
	tx, err := guarded(ctx, db, store, f)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }() // unless it was committed
	runtime.Gosched()
	result, err := tx.ExecContext(ctx, fmt.Sprintf(`UPDATE latest SET generation = %[1]d, acts = acts + 1 WHERE generation <= %[1]d`, generation))
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, err
	}
	return n, tx.Commit()
}

func TestTransactionOfAnInstanceThatWasPausedPastItsPlanIsRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
				c := teststore.NewCompany(t, mode)
				join := func(id string) *teststore.Member {
					m := c.Member(store, id, 1)
					require.NoError(t, m.Join(patience(t)))
					return m
				}
				a := join("a")
				c.Tile(1, a)
				state := a.State()
				fence, err := a.StoreFence(state)
				require.NoError(t, err)
				tx, err := guarded(patience(t), db, store, fence)
				require.NoError(t, err, "it would have been done before")
				require.NoError(t, tx.Commit())

				b := join("b")
				c.Tile(2, a, b)
				_, err = guarded(patience(t), db, store, fence) // a goes on as if nothing had happened
				require.ErrorIs(t, err, kv.ErrFenced)
				_, err = a.StoreFence(state)
				require.ErrorIs(t, err, libcluster.ErrRebalanced)
				fence, err = b.StoreFence(b.State())
				require.NoError(t, err)
				tx, err = guarded(patience(t), db, store, fence)
				require.NoError(t, err)
				require.NoError(t, tx.Commit())
				require.NoError(t, b.Leave(patience(t)))
				_, err = b.StoreFence(b.State())
				require.ErrorIs(t, err, libcluster.ErrLeft)
				require.NoError(t, a.Leave(patience(t)))
			})
		})
	}
}

// The record and the note of what was released are both looked at.
func TestTransactionForAPartitionThatHasMovedIsRefused(t *testing.T) {
	t.Parallel()
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		c := teststore.NewCompany(t, libcluster.ModeCooperative)
		partitions := func(m *teststore.Member) []libcluster.Partition { return slices.Collect(m.State().Held()) }
		a, b := c.Member(store, "a", 1), c.Member(store, "b", 1)
		require.NoError(t, a.Join(patience(t)))
		all := partitions(a)
		moves := all[len(all)-1]
		fence, err := a.PartitionFence(moves)
		require.NoError(t, err)
		commits := func(f kv.Fence) {
			tx, err := guarded(patience(t), db, store, f)
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
		}
		commits(fence)

		require.NoError(t, b.Join(patience(t)))
		_, held := b.State().Partition(moves.Number)
		require.True(t, held)
		_, err = guarded(patience(t), db, store, fence)
		require.ErrorIs(t, err, kv.ErrFenced)
		_, err = a.PartitionFence(moves)
		require.ErrorIs(t, err, libcluster.ErrRebalanced)
		fence, err = a.PartitionFence(all[0])
		require.NoError(t, err)
		commits(fence)

		for _, wrong := range []struct {
			change func(*kv.Fence)
			why    string
		}{
			{func(f *kv.Fence) { f.Owner++ }, `the record of "a" is another one's`},
			{func(f *kv.Fence) { f.Member = "x" }, `the record of "x" has gone`},
		} {
			f := fence
			wrong.change(&f)
			_, err = guarded(patience(t), db, store, f)
			require.ErrorIs(t, err, kv.ErrFenced)
			require.ErrorContains(t, err, wrong.why)
		}
		require.NoError(t, a.Leave(patience(t)))
		_, err = guarded(patience(t), db, store, fence)
		require.ErrorIs(t, err, kv.ErrFenced)
		require.NoError(t, b.Leave(patience(t)))
	})
}

func TestNothingIsGuardedByAnEmptyFenceOrByAnotherStores(t *testing.T) {
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		space := open(t, store)
		fence := fenced(t, space)
		exec(t, db, `UPDATE libcluster_store SET id = 'restored'`)
		for _, f := range []kv.Fence{{}, {Space: "space", Key: "absent"}, fence} {
			_, err := guarded(patience(t), db, store, f)
			require.ErrorIs(t, err, kv.ErrFenced)
		}
	})
	on(t, all, func(t *testing.T, db *sql.DB, store *sqlstore.Store) {
		c := teststore.NewCompany(t, libcluster.ModeDirect)
		m := c.Member(store, "a", 1)
		require.NoError(t, m.Join(patience(t)))
		_, err := m.StoreFence(m.State())
		require.ErrorContains(t, err, "mode direct")
		require.NoError(t, m.Leave(patience(t)))
	})
}
