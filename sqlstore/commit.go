package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/libcluster/libcluster/internal/calls"
	"github.com/libcluster/libcluster/kv"
)

const (
	// tidyWithin is how long it may take to tidy up a connection after a transaction.
	tidyWithin = 5 * time.Second
	// pruneEvery is after how many revisions old changes are removed.
	pruneEvery = 64
	// most is how many arguments a statement has at most, about.
	most = 500
)

// txn is a transaction that has locked its space.
//
// The lock is that of the space's row, and every transaction that changes records, changes
// or the revision, or ends a lease, takes it first and has it until all it has done can
// be seen. So these transactions happen one after another: what one reads after the
// lock stays true until its end, and the changes of a revision cannot become visible
// before those of a lower one.
type txn struct {
	session
	sp     *space
	mark   kv.Mark // with what it has done so far
	pruned int64
	leases bool // it has ended one
}

// locked carries out a transaction. The leases that have had their time are ended before
// f is called, and stay so if the error of f is certain: then f must have written nothing.
func (sp *space) locked(ctx context.Context, f func(context.Context, *txn) error) error {
	return sp.with(ctx, sp.store.onPool, func(ctx context.Context, c session) error {
		t := &txn{session: c, sp: sp}
		changed, err := t.run(ctx, f)
		if changed {
			sp.store.heard(payload(sp.short))
		}
		return err
	})
}

// run reports whether it has changed anything.
func (t *txn) run(ctx context.Context, f func(context.Context, *txn) error) (bool, error) {
	for _, statement := range t.store.lang.begin {
		if _, err := t.exec(ctx, statement); err != nil {
			if !t.store.lang.conflict(err) {
				discard(t.conn) // it may have begun
			}
			return false, err
		}
	}
	if err := t.lock(ctx); err != nil {
		return false, t.rollback(ctx, err)
	}
	before := t.mark.Revision
	if err := t.reap(ctx); err != nil {
		return false, t.rollback(ctx, err)
	}
	ended := f(ctx, t)
	if ended != nil && !calls.Certain(ended) {
		return false, t.rollback(ctx, ended)
	}
	changed := t.mark.Revision > before
	if !changed && !t.leases {
		return false, t.rollback(ctx, ended)
	}
	if changed {
		if err := t.save(ctx); err != nil {
			return false, t.rollback(ctx, err)
		}
	}
	if _, err := t.exec(ctx, "COMMIT"); err != nil {
		return changed, t.rollback(ctx, err)
	}
	t.restore(ctx)
	return changed, ended
}

// rollback ends the transaction, and returns why. A connection that cannot do so is
// closed, which ends it as well.
func (t *txn) rollback(ctx context.Context, why error) error {
	t.tidy(ctx, "ROLLBACK")
	t.restore(ctx)
	return why
}

// restore has the connection be as the application knows it.
func (t *txn) restore(ctx context.Context) { t.tidy(ctx, t.store.lang.end...) }

// tidy executes what must be done before the connection is given back, or closes it.
func (t *txn) tidy(ctx context.Context, statements ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWithin)
	defer cancel()
	for _, statement := range statements {
		if _, err := t.exec(ctx, statement); err != nil {
			discard(t.conn)
			return
		}
	}
}

// lock locks the space, and reads how far it has come.
func (t *txn) lock(ctx context.Context) error {
	found, readOnly := false, 0
	err := t.query(ctx, `SELECT revision, pruned, (SELECT id{timeline} FROM {store}), {read-only}, {idle}, {turn}, {lasting} FROM {space} WHERE name = ? {lock}`,
		[]any{t.sp.name}, func(rows *sql.Rows) error {
			found = true
			var idle, turn, lasting any
			return rows.Scan(&t.mark.Revision, &t.pruned, &t.mark.Store, &readOnly, &idle, &turn, &lasting)
		})
	switch {
	case err != nil:
		return err
	case !found:
		return errNoSpace
	case readOnly != 0:
		return errReadOnly
	}
	return nil
}

// save writes how far the space has come, and removes what is old.
func (t *txn) save(ctx context.Context) error {
	if old := t.mark.Revision - t.store.keep; old-t.pruned >= pruneEvery {
		if _, err := t.exec(ctx, `DELETE FROM {change} WHERE space = ? AND revision <= ?`, t.sp.name, old); err != nil {
			return err
		}
		t.pruned = old
	}
	_, err := t.exec(ctx, `UPDATE {space} SET revision = ?, pruned = ? WHERE name = ?`+t.store.told(t.sp.short), t.mark.Revision, t.pruned, t.sp.name)
	return err
}

func (sp *space) Commit(ctx context.Context, tx kv.Tx) (kv.Result, error) {
	const what = "committing a transaction"
	if err := calls.CheckTx(tx); err != nil {
		return kv.Result{}, fmt.Errorf("%s: %w: %w", what, kv.ErrRefused, err)
	}
	type answer struct {
		result kv.Result
		listed []kv.Record
	}
	a, err := calls.Do(ctx, sp.life, what, func(ctx context.Context) (a answer, err error) {
		err = sp.locked(ctx, func(ctx context.Context, t *txn) error {
			a.result, a.listed, err = t.commit(ctx, tx)
			return err
		})
		return a, err
	})
	if err != nil {
		return kv.Result{}, err
	}
	return a.result, calls.Hand(a.listed, tx.Each)
}

// commit writes nothing unless all conditions hold and all leases live. It also returns
// what Each is to be handed.
func (t *txn) commit(ctx context.Context, tx kv.Tx) (result kv.Result, listed []kv.Record, err error) {
	records, err := t.conditions(ctx, tx.If)
	if err != nil {
		return result, nil, err
	}
	for i, c := range tx.If {
		if !c.Holds(records[i]) {
			return kv.Result{Mark: t.mark, Records: records}, nil, nil
		}
	}
	if err := t.live(ctx, tx.Put); err != nil {
		return result, nil, err
	}
	if err := t.write(ctx, tx); err != nil {
		return result, nil, err
	}
	if tx.Each != nil {
		listed, err = t.records(ctx, `name >= ? AND name < ?`, []byte(tx.Prefix), past(tx.Prefix))
		sortByKey(listed)
	}
	return kv.Result{Done: true, Mark: t.mark}, listed, err
}

// conditions returns the record of each condition.
func (t *txn) conditions(ctx context.Context, conditions []kv.Cond) ([]kv.Record, error) {
	found := map[string]kv.Record{}
	for some := range slices.Chunk(conditions, most) {
		keys := make([]any, len(some))
		for i, c := range some {
			keys[i] = []byte(c.Key)
		}
		records, err := t.records(ctx, `name IN (`+marks(len(keys))+`)`, keys...)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			found[r.Key] = r
		}
	}
	records := make([]kv.Record, len(conditions))
	for i, c := range conditions {
		records[i] = found[c.Key]
		records[i].Key = c.Key
	}
	return records, nil
}

// records returns those that a condition in SQL is true of.
func (t *txn) records(ctx context.Context, where string, args ...any) ([]kv.Record, error) {
	var records []kv.Record
	err := t.query(ctx, `SELECT name, value, owner, version, created FROM {record} WHERE space = ? AND `+where+` {all}`,
		append([]any{t.sp.name}, args...), func(rows *sql.Rows) error {
			var r kv.Record
			var name []byte
			err := rows.Scan(&name, &r.Value, &r.Owner, &r.Version, &r.Created)
			r.Key = string(name)
			records = append(records, r)
			return err
		})
	return records, err
}

// live returns kv.ErrEnded unless the leases of all records live. They do so until the
// end of the transaction: to end one takes the lock.
func (t *txn) live(ctx context.Context, puts []kv.Record) error {
	var owners []any
	for _, r := range puts {
		if r.Owner != 0 && !slices.Contains(owners, any(int64(r.Owner))) {
			owners = append(owners, int64(r.Owner))
		}
	}
	for some := range slices.Chunk(owners, most) {
		living := 0
		err := t.query(ctx, `SELECT owner FROM {lease} WHERE space = ? AND owner IN (`+marks(len(some))+`) {all}`,
			append([]any{t.sp.name}, some...), func(*sql.Rows) error {
				living++
				return nil
			})
		if err != nil {
			return err
		}
		if living < len(some) {
			return kv.ErrEnded
		}
	}
	return nil
}

// write puts and deletes records as the next revision, if there is anything to do.
func (t *txn) write(ctx context.Context, tx kv.Tx) error {
	next := t.mark.Revision + 1
	var changed int64
	for _, r := range tx.Put {
		value := r.Value
		if value == nil {
			value = []byte{}
		}
		_, err := t.exec(ctx, `INSERT INTO {record} (space, name, value, owner, version, created) VALUES (?, ?, ?, ?, ?, ?) {replace}`,
			t.sp.name, []byte(r.Key), value, int64(r.Owner), next, next)
		if err != nil {
			return err
		}
		n, err := t.exec(ctx, `INSERT INTO {change} (space, revision, name, value, owner, created, gone)
SELECT space, version, name, value, owner, created, 0 FROM {record} WHERE space = ? AND name = ?`, t.sp.name, []byte(r.Key))
		if err != nil {
			return err
		}
		changed += n
	}
	for _, key := range tx.Delete {
		n, err := t.remove(ctx, next, `name = ?`, []byte(key))
		if err != nil {
			return err
		}
		changed += n
	}
	if changed > 0 {
		t.mark.Revision = next
	}
	return nil
}

// remove deletes the records that a condition in SQL is true of, and returns how many.
func (t *txn) remove(ctx context.Context, revision int64, where string, arg any) (int64, error) {
	n, err := t.exec(ctx, `INSERT INTO {change} (space, revision, name, value, owner, created, gone)
SELECT space, CAST(? AS {int}), name, NULL, 0, 0, 1 FROM {record} WHERE space = ? AND `+where, revision, t.sp.name, arg)
	if err != nil || n == 0 {
		return 0, err
	}
	_, err = t.exec(ctx, `DELETE FROM {record} WHERE space = ? AND `+where, t.sp.name, arg)
	return n, err
}
