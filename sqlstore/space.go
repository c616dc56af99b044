package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/libcluster/libcluster/internal/calls"
	"github.com/libcluster/libcluster/kv"
)

// space is one opened space.
type space struct {
	store *Store
	name  []byte
	short uint64          // stands for the name
	life  context.Context // until it is closed
	end   context.CancelFunc

	mu       sync.Mutex                 // guards what follows
	own      *own                       // is used by heartbeats; nil: the space is closed
	ttls     map[kv.Owner]time.Duration // of the leases begun here
	unlooked int                        // looks of watches in a row that had no answer in time
}

func newSpace(s *Store, name string) *space {
	sp := &space{store: s, name: []byte(name), short: s.shortName(name), own: newOwn(), ttls: map[kv.Owner]time.Duration{}}
	sp.life, sp.end = context.WithCancel(context.Background())
	return sp
}

// Close never fails.
func (sp *space) Close() error {
	sp.mu.Lock()
	closed := sp.life.Err() != nil
	sp.end()
	last := sp.own
	sp.own = nil
	sp.mu.Unlock()
	if closed {
		return nil
	}
	sp.store.unregister(string(sp.name))
	select {
	case last.turn <- struct{}{}:
		sp.yield(last)
	default: // the call that has it gives it back
	}
	return nil
}

// session is a connection, in the words of its database.
type session struct {
	store *Store
	conn  *sql.Conn
}

// exec returns how many rows a statement has changed.
func (c session) exec(ctx context.Context, statement string, args ...any) (int64, error) {
	result, err := c.conn.ExecContext(ctx, c.store.expand(statement), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// query calls row for each row.
func (c session) query(ctx context.Context, statement string, args []any, row func(*sql.Rows) error) error {
	rows, err := c.conn.QueryContext(ctx, c.store.expand(statement), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// discard closes a connection, instead of giving it back to the pool.
func discard(c *sql.Conn) {
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
	c.Close()
}

// onPool calls f with a connection of the pool. One to a server that does not write is not
// given back: the next one may lead to another server.
func (s *Store) onPool(ctx context.Context, f func(context.Context, session) error) error {
	if err := s.moved(); err != nil {
		return err
	}
	c, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	err = f(ctx, session{s, c})
	if err != nil && s.lang.readOnly(err) {
		discard(c)
	} else {
		c.Close()
	}
	return err
}

// ended is a context that has ended.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// closed returns an error if the application has closed the pool. That leaves a connection open
// which is in use, and heartbeats would go on by one that learns of nothing any more. A pool
// that is open looks at the context next, and does nothing.
func closed(db *sql.DB) error {
	c, err := db.Conn(ended)
	switch {
	case err == nil:
		c.Close()
	case !errors.Is(err, context.Canceled):
		return err
	}
	return nil
}

const (
	firstPause = time.Millisecond
	lastPause  = 32 * time.Millisecond
	// staleMost is how many connections of the pool may turn out to have ended.
	staleMost = 3
)

// again calls f until it has no conflict with another user, and tells what the database
// will never do.
func (s *Store) again(ctx context.Context, f func() error) error {
	pause, staled := firstPause, 0
	for {
		err := f()
		switch {
		case err == nil, calls.Certain(err):
			return err
		case stale(err) && staled < staleMost:
			staled++
		case s.lang.conflict(err):
		case s.lang.refuses(err):
			return s.lang.refusal(err)
		default:
			return err
		}
		wait := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		pause = min(2*pause, lastPause)
	}
}

// caller calls a function with a connection.
type caller func(ctx context.Context, f func(context.Context, session) error) error

// with calls f with a connection. If a table or the row of the space has been removed, it makes
// that anew. Without a table it is another store.
func (sp *space) with(ctx context.Context, on caller, f func(context.Context, session) error) error {
	s := sp.store
	made := false
	return s.again(ctx, func() error {
		err := on(ctx, f)
		if err != nil && !made && (errors.Is(err, errNoSpace) || s.lang.missing(err)) {
			made = true
			if err := s.prepare(ctx, string(sp.name)); err != nil {
				return err
			}
			return errAgain
		}
		return err
	})
}

// marks returns "?, ?, ?" for n arguments.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
