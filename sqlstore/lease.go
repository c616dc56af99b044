package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/libcluster/libcluster/internal/calls"
	"github.com/libcluster/libcluster/kv"
)

// grain is how much longer a lease lives than was promised: a clock that shows
// milliseconds may be that late when it begins.
const grain = 1000 // microseconds

// Begin adds a row, and waits for no lock of the space unless the owner has one already.
// The lease's time begins in the database later than Begin was called.
func (sp *space) Begin(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
	const what = "beginning a lease"
	if owner <= 0 || ttl <= 0 {
		return 0, fmt.Errorf("%s: %w: an owner and a time are positive", what, kv.ErrRefused)
	}
	micros := int64((ttl + time.Microsecond - 1) / time.Microsecond)
	ttl = time.Duration(micros) * time.Microsecond
	return calls.Do(ctx, sp.life, what, func(ctx context.Context) (time.Duration, error) {
		// The connection for heartbeats is there before there is need of any.
		err := sp.onOwn(ctx, func(context.Context, session) error { return nil })
		if err != nil {
			return 0, err
		}
		err = sp.begin(ctx, owner, micros)
		if sp.store.lang.exists(err) {
			// What is there may be that of a lease which has had its time.
			if err := sp.reapNow(ctx); err != nil {
				return 0, err
			}
			err = sp.begin(ctx, owner, micros)
		}
		switch {
		case sp.store.lang.exists(err):
			return 0, fmt.Errorf("%w: the owner has a lease", kv.ErrRefused)
		case err != nil:
			return 0, err
		}
		sp.mu.Lock()
		sp.ttls[owner] = ttl
		sp.mu.Unlock()
		return ttl, nil
	})
}

func (sp *space) begin(ctx context.Context, owner kv.Owner, micros int64) error {
	return sp.with(ctx, sp.store.onPool, func(ctx context.Context, c session) error {
		n, err := c.exec(ctx, `INSERT INTO {lease} (space, owner, expires, ttl) SELECT ?, ?, {now} + ?, ? FROM {store} WHERE {writes}`,
			sp.name, int64(owner), micros+grain, micros)
		if err != nil || n > 0 {
			return err
		}
		if err := c.writes(ctx); err != nil {
			return err
		}
		return errNoSpace // the store has no name any more
	})
}

// writes returns errReadOnly if the server does not write.
func (c session) writes(ctx context.Context) error {
	return c.query(ctx, `SELECT {read-only}`, nil, func(rows *sql.Rows) error {
		var readOnly int
		if err := rows.Scan(&readOnly); err != nil {
			return err
		}
		if readOnly != 0 {
			return errReadOnly
		}
		return nil
	})
}

// Renew changes nothing but the row of the lease, and waits for no lock of the space. A
// statement that has changed the row has found it after Renew was called.
func (sp *space) Renew(ctx context.Context, owner kv.Owner) (time.Duration, error) {
	return calls.Do(ctx, sp.life, "renewing a lease", func(ctx context.Context) (ttl time.Duration, err error) {
		err = sp.store.again(ctx, func() error {
			return sp.onOwn(ctx, func(ctx context.Context, c session) error {
				ttl, err = sp.renew(ctx, c, owner)
				return err
			})
		})
		return ttl, err
	})
}

func (sp *space) renew(ctx context.Context, c session, owner kv.Owner) (time.Duration, error) {
	sp.mu.Lock()
	ttl := sp.ttls[owner]
	sp.mu.Unlock()
	if ttl == 0 {
		var err error
		if ttl, err = sp.granted(ctx, c, owner); err != nil {
			return 0, err
		}
	}
	n, err := c.exec(ctx, `UPDATE {lease} SET expires = {now} + ttl + ? WHERE space = ? AND owner = ? AND {writes}`,
		grain, sp.name, int64(owner))
	if err != nil || n > 0 {
		return ttl, err
	}
	// It is not there, or the server does not write. MySQL says 0 as well if a row was
	// changed to what it was.
	if _, err := sp.granted(ctx, c, owner); err != nil {
		return 0, err
	}
	return 0, errAgain
}

// granted returns the time of a lease.
func (sp *space) granted(ctx context.Context, c session, owner kv.Owner) (time.Duration, error) {
	var readOnly int
	var micros sql.NullInt64
	err := c.query(ctx, `SELECT {read-only}, (SELECT ttl FROM {lease} WHERE space = ? AND owner = ?)`,
		[]any{sp.name, int64(owner)}, func(rows *sql.Rows) error { return rows.Scan(&readOnly, &micros) })
	switch {
	case err != nil:
		return 0, err
	case readOnly != 0:
		return 0, errReadOnly
	case !micros.Valid:
		sp.forget(owner)
		return 0, kv.ErrEnded
	}
	return time.Duration(micros.Int64) * time.Microsecond, nil
}

func (sp *space) forget(owner kv.Owner) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	delete(sp.ttls, owner)
}

func (sp *space) End(ctx context.Context, owner kv.Owner) error {
	_, err := calls.Do(ctx, sp.life, "ending a lease", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, sp.locked(ctx, func(ctx context.Context, t *txn) error {
			return t.end(ctx, owner, `TRUE`)
		})
	})
	if err == nil {
		sp.forget(owner)
	}
	return err
}

// reapNow ends the leases that have had their time.
func (sp *space) reapNow(ctx context.Context) error {
	return sp.locked(ctx, func(context.Context, *txn) error { return nil })
}

// reap ends the leases that have had their time.
func (t *txn) reap(ctx context.Context) error {
	var owners []kv.Owner
	err := t.query(ctx, `SELECT owner FROM {lease} WHERE space = ? AND expires <= {now} {all}`, []any{t.sp.name},
		func(rows *sql.Rows) error {
			var owner kv.Owner
			err := rows.Scan(&owner)
			owners = append(owners, owner)
			return err
		})
	if err != nil {
		return err
	}
	for _, owner := range owners {
		if err := t.endExpired(ctx, owner); err != nil {
			return err
		}
	}
	return nil
}

// endExpired ends a lease that has had its time, unless it has been renewed meanwhile,
// which takes no lock of the space.
func (t *txn) endExpired(ctx context.Context, owner kv.Owner) error {
	return t.end(ctx, owner, `expires <= {now}`)
}

// end ends a lease if a condition in SQL is true of it, and deletes its records, as a
// revision of its own if there are any.
func (t *txn) end(ctx context.Context, owner kv.Owner, where string) error {
	n, err := t.exec(ctx, `DELETE FROM {lease} WHERE space = ? AND owner = ? AND `+where, t.sp.name, int64(owner))
	if err != nil || n == 0 {
		return err
	}
	t.leases = true
	n, err = t.remove(ctx, t.mark.Revision+1, `owner = ?`, int64(owner))
	if n > 0 {
		t.mark.Revision++
	}
	return err
}
