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

// take waits for the own connection. If what has it does not come to its end, there is another one
// beside it: a line may have died, of which nothing tells, or only be slow.
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
			hung.Stop()
			if sp.isOwn(o) {
				return o, nil
			}
			sp.yield(o)
		case <-hung.C:
			sp.giveUp(o)
		case <-ctx.Done():
			hung.Stop()
			return nil, ctx.Err()
		}
	}
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

// giveUp has the space have another connection, unless nothing uses this one any more.
func (sp *space) giveUp(o *own) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.own != o {
		return
	}
	select {
	case o.turn <- struct{}{}:
		<-o.turn
	default:
		sp.own = newOwn()
	}
}

// yield lets others use what was taken. A connection that was given up, or whose space was closed,
// goes back to the pool.
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
		c, err := sp.store.db.Conn(ctx)
		if err != nil {
			return err
		}
		if err := (session{sp.store, c}).fit(ctx); err != nil { // the server may be set up anew
			c.Close()
			return err
		}
		o.conn = c
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
