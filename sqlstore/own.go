package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/libcluster/libcluster/internal/calls"
	"github.com/libcluster/libcluster/kv"
)

// own is a space's own connection, for heartbeats. A heartbeat is a Renew and a Get.
type own struct {
	turn chan struct{} // held by what uses conn, or makes it
	conn *sql.Conn     // nil: there is none
}

func newOwn() *own { return &own{turn: make(chan struct{}, 1)} }

// hungPart is the part of the shortest lease's time for which a call may have the own connection
// while another one waits for it.
const hungPart = 10

// take waits for the own connection. If what has it does not come to its end, another one of the pool may
// take its place: a line may have died, of which nothing tells, or only be slow.
func (sp *space) take(ctx context.Context) (*own, error) {
	for {
		sp.mu.Lock()
		o := sp.own
		sp.mu.Unlock()
		if o == nil {
			return nil, kv.ErrClosed
		}
		hung := time.NewTimer(sp.shortest() / hungPart)
		select {
		case o.turn <- struct{}{}:
		case <-hung.C:
			var err error
			if o, err = sp.takeAnother(ctx, o); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			hung.Stop()
			return nil, ctx.Err()
		}
		hung.Stop()
		if sp.isOwn(o) {
			return o, nil
		}
		sp.yield(o)
	}
}

// takeAnother returns what comes first: the turn at the own connection, or another connection, which is the
// own one from now on, unless another call was faster. The application may have all others.
func (sp *space) takeAnother(ctx context.Context, o *own) (*own, error) {
	asking, cancel := context.WithCancel(ctx)
	came := make(chan *sql.Conn, 1)
	go func() {
		defer close(came)
		if c, err := sp.connect(asking); err == nil {
			came <- c
		}
	}()
	defer func() {
		cancel()
		go func() {
			if c := <-came; c != nil {
				c.Close()
			}
		}()
	}()
	another := newOwn()
	another.turn <- struct{}{}
	select {
	case another.conn = <-came:
	case o.turn <- struct{}{}:
		return o, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if another.conn != nil {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		if sp.own == o {
			sp.own = another
		}
		return another, nil
	}
	select {
	case o.turn <- struct{}{}:
		return o, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// connect returns a connection of the pool for heartbeats.
func (sp *space) connect(ctx context.Context) (*sql.Conn, error) {
	c, err := sp.store.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := (session{sp.store, c}).fit(ctx); err != nil { // the server may be set up anew
		c.Close()
		return nil, err
	}
	return c, nil
}

// forever is the time of a lease when there is none.
const forever = 24 * time.Hour

// shortest returns the time of the lease that has the shortest of those begun here.
func (sp *space) shortest() time.Duration {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	shortest := forever
	for _, ttl := range sp.ttls {
		shortest = min(shortest, ttl)
	}
	return shortest
}

func (sp *space) isOwn(o *own) bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.own == o
}

// yield lets others use what was taken. A connection that another one has replaced, or whose space was
// closed, goes back to the pool.
func (sp *space) yield(o *own) {
	sp.mu.Lock()
	over := sp.own != o
	if !over {
		<-o.turn
	}
	sp.mu.Unlock()
	if !over {
		return
	}
	if o.conn != nil {
		o.conn.Close()
		o.conn = nil
	}
	<-o.turn
}

// onOwn calls f with the space's own connection, which it makes if there is none. The connection
// is given up after an error that the next one may not have.
func (sp *space) onOwn(ctx context.Context, f func(context.Context, session) error) error {
	o, err := sp.take(ctx)
	if err != nil {
		return err
	}
	defer sp.yield(o)
	if o.conn == nil {
		if o.conn, err = sp.connect(ctx); err != nil {
			return err
		}
	}
	return sp.useOwn(ctx, o, f)
}

// onOwnIfAny calls f with the space's own connection, or with one of the pool if the space
// has none.
func (sp *space) onOwnIfAny(ctx context.Context, f func(context.Context, session) error) error {
	o, err := sp.take(ctx)
	if err != nil {
		return err
	}
	if o.conn == nil {
		sp.yield(o)
		return sp.store.onPool(ctx, f)
	}
	defer sp.yield(o)
	return sp.useOwn(ctx, o, f)
}

func (sp *space) useOwn(ctx context.Context, o *own, f func(context.Context, session) error) error {
	err := errors.Join(closed(sp.store.db), sp.store.moved())
	if err == nil {
		err = f(ctx, session{sp.store, o.conn})
	}
	if err != nil && !calls.Certain(err) && !sp.store.lang.conflict(err) {
		discard(o.conn)
		o.conn = nil
	}
	return err
}
