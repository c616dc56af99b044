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

	// turn is held by what uses own, the connection for heartbeats, or makes it. A heartbeat
	// is a Renew and a Get.
	turn chan struct{}
	own  *sql.Conn

	mu   sync.Mutex
	ttls map[kv.Owner]time.Duration // of the leases begun here
}

func newSpace(s *Store, name string) *space {
	sp := &space{store: s, name: []byte(name), short: s.shortName(name), turn: make(chan struct{}, 1), ttls: map[kv.Owner]time.Duration{}}
	sp.life, sp.end = context.WithCancel(context.Background())
	return sp
}

// Close never fails.
func (sp *space) Close() error {
	sp.mu.Lock()
	closed := sp.life.Err() != nil
	sp.end()
	sp.mu.Unlock()
	if closed {
		return nil
	}
	sp.store.unregister(string(sp.name))
	select {
	case sp.turn <- struct{}{}: // for ever
		sp.giveBack()
	default:
		go func() { // when the call that has it has ended
			sp.turn <- struct{}{}
			sp.giveBack()
		}()
	}
	return nil
}

func (sp *space) giveBack() {
	if sp.own != nil {
		sp.own.Close()
	}
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

// onOwn calls f with the space's own connection, which it makes if there is none. The connection
// is given up after an error that the next one may not have.
func (sp *space) onOwn(ctx context.Context, f func(context.Context, session) error) error {
	select {
	case sp.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-sp.turn }()
	if sp.own == nil {
		c, err := sp.store.db.Conn(ctx)
		if err != nil {
			return err
		}
		if err := (session{sp.store, c}).fit(ctx); err != nil { // the server may be set up anew
			c.Close()
			return err
		}
		sp.own = c
	}
	return sp.useOwn(ctx, f)
}

// onOwnIfAny calls f with the space's own connection, or with one of the pool if the space
// has none.
func (sp *space) onOwnIfAny(ctx context.Context, f func(context.Context, session) error) error {
	select {
	case sp.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if sp.own == nil {
		<-sp.turn
		return sp.store.onPool(ctx, f)
	}
	defer func() { <-sp.turn }()
	return sp.useOwn(ctx, f)
}

func (sp *space) useOwn(ctx context.Context, f func(context.Context, session) error) error {
	err := errors.Join(closed(sp.store.db), sp.store.moved())
	if err == nil {
		err = f(ctx, session{sp.store, sp.own})
	}
	if err != nil && !calls.Certain(err) && !sp.store.lang.conflict(err) {
		discard(sp.own)
		sp.own = nil
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
