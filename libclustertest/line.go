package libclustertest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// line is one session's way to the store. It counts, and what changes something is intercepted
// here, request by request: one that arrives late has the conditions that it was sent with. What
// only tells something is intercepted above, as a call of the session.
type line struct {
	r       *Registry
	call    Call // without its Op
	plan    bool // in a mode with a plan
	passive bool
	epoch   atomic.Int64 // the registry's when the members were listed last
	lost    atomic.Bool  // a change that Next has found was not delivered
	joining atomic.Bool
	kv.Space
}

// Close does nothing: what is under way may arrive after the session has been closed.
func (l *line) Close() error { return nil }

// asking marks the context of a call of a session whose requests are intercepted, with its Op.
type asking struct{}

// send sends a request. It is intercepted if it is one of such a call, or if it has an Op while
// the instance joins.
func send[T any](ctx context.Context, l *line, joining Op, effect func(context.Context) (T, error)) (T, error) {
	op, marked := ctx.Value(asking{}).(Op)
	if !marked && l.joining.Load() {
		op = joining
	}
	if op != "" {
		return exchange(ctx, l.r, l.call.of(op), effect)
	}
	if err := l.pass(ctx); err != nil {
		var zero T
		return zero, err
	}
	return effect(ctx)
}

// pass waits until the instance is not cut off, while it joins.
func (l *line) pass(ctx context.Context) error {
	if !l.joining.Load() {
		return nil
	}
	return l.r.pass(ctx, l.call.ID)
}

// Begin grants what [Registry.GrantTTL] says to one that joins.
func (l *line) Begin(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
	l.r.mu.Lock()
	if l.joining.Load() && l.r.granted > 0 {
		ttl = l.r.granted
	}
	l.r.mu.Unlock()
	var begun atomic.Bool // the request may arrive more than once
	return send(ctx, l, OpOpen, func(ctx context.Context) (time.Duration, error) {
		if begun.Swap(true) {
			return l.Space.Renew(ctx, owner)
		}
		return l.Space.Begin(ctx, owner, ttl)
	})
}

// Renew is a part of joining.
func (l *line) Renew(ctx context.Context, owner kv.Owner) (time.Duration, error) {
	if err := l.pass(ctx); err != nil {
		return 0, err
	}
	return l.Space.Renew(ctx, owner)
}

// End counts the records that it deletes.
func (l *line) End(ctx context.Context, owner kv.Owner) error {
	_, err := send(ctx, l, OpEnd, func(ctx context.Context) (none, error) {
		held := 0
		_, err := l.Space.List(ctx, "", func(r kv.Record) error {
			if r.Owner == owner {
				held++
			}
			return nil
		})
		if err != nil {
			return none{}, err
		}
		l.r.count(func(c *Counts) { c.Writes += held })
		return none{}, l.Space.End(ctx, owner)
	})
	return err
}

// Get is a part of joining, or of a call.
func (l *line) Get(ctx context.Context, key string) (kv.Record, kv.Mark, error) {
	type found struct {
		kv.Record
		kv.Mark
	}
	got, err := send(ctx, l, "", func(ctx context.Context) (got found, err error) {
		got.Record, got.Mark, err = l.Space.Get(ctx, key)
		return got, err
	})
	return got.Record, got.Mark, err
}

// List counts as a read.
func (l *line) List(ctx context.Context, prefix string, each func(kv.Record) error) (kv.Mark, error) {
	if err := l.pass(ctx); err != nil {
		return kv.Mark{}, err
	}
	if l.passive && l.joining.Load() { // its request to join
		listed, err := exchange(ctx, l.r, l.call.of(OpJoin), func(ctx context.Context) (listing, error) {
			var got listing
			var err error
			l.epoch.Store(l.r.epoch.Load())
			got.Mark, err = l.Space.List(ctx, prefix, got.each)
			return got, err
		})
		if err != nil {
			return kv.Mark{}, err
		}
		l.r.count(func(c *Counts) { c.Reads++ })
		return listed.Mark, listed.hand(each)
	}
	l.r.count(func(c *Counts) { c.Reads++ })
	if l.passive {
		l.epoch.Store(l.r.epoch.Load())
	}
	return l.Space.List(ctx, prefix, each)
}

// Commit counts what it writes and reads. What lists with it is a request by itself.
func (l *line) Commit(ctx context.Context, tx kv.Tx) (kv.Result, error) {
	if tx.Each == nil {
		done, err := send(ctx, l, "", func(ctx context.Context) (kv.Result, error) { return l.commit(ctx, tx) })
		return met(done, err)
	}
	op := OpList
	if l.joining.Load() {
		op = OpJoin
	}
	listed, err := exchange(ctx, l.r, l.call.of(op), func(ctx context.Context) (listing, error) {
		l.epoch.Store(l.r.epoch.Load())
		got, once := listing{}, tx
		once.Each = got.each // the request may arrive more than once
		var err error
		got.Result, err = l.commit(ctx, once)
		return got, err
	})
	done, err := met(listed.Result, err)
	if err != nil || !done.Done {
		return done, err
	}
	return done, listed.hand(tx.Each)
}

// unmet is the answer to a request that had no effect, since its conditions did not hold.
type unmet struct{ result kv.Result }

func (*unmet) Error() string {
	return "libclustertest: the record has changed since the request was made"
}

// met is what the sender of a transaction is told.
func met(done kv.Result, err error) (kv.Result, error) {
	if not := (*unmet)(nil); errors.As(err, &not) {
		return not.result, nil
	}
	return done, err
}

func (l *line) commit(ctx context.Context, tx kv.Tx) (kv.Result, error) {
	done, err := l.Space.Commit(ctx, tx)
	switch {
	case err != nil:
	case !done.Done:
		err = &unmet{done}
	default:
		l.r.count(func(c *Counts) {
			c.Writes += len(tx.Put) + len(tx.Delete)
			if tx.Each != nil {
				c.Reads++
			}
		})
	}
	return done, err
}

// listing is an answer to what lists.
type listing struct {
	kv.Result
	kv.Mark
	records []kv.Record
}

func (l *listing) each(r kv.Record) error {
	l.records = append(l.records, r)
	return nil
}

func (l *listing) hand(each func(kv.Record) error) error {
	for _, r := range l.records {
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

// Watch counts what surveys are told.
func (l *line) Watch(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
	if err := l.pass(ctx); err != nil {
		return nil, err
	}
	w, err := l.Space.Watch(ctx, prefix, after)
	if err != nil {
		return nil, err
	}
	if ctx.Value(surveying{}) != nil {
		return &surveys{w, l.r}, nil
	}
	return &news{w, l}, nil
}

// surveying marks the context of a Survey.
type surveying struct{}

type surveys struct {
	kv.Watch
	r *Registry
}

func (w *surveys) Next(ctx context.Context) (kv.Changes, error) {
	changes, err := w.Watch.Next(ctx)
	w.r.count(func(c *Counts) { c.Deliveries += len(changes.Records) })
	return changes, err
}

// news is the watch of a session's Next, which it has begin anew if what it has told got lost.
type news struct {
	kv.Watch
	l *line
}

func (w *news) Next(ctx context.Context) (kv.Changes, error) {
	if w.l.lost.Swap(false) {
		return kv.Changes{}, kv.ErrMissed
	}
	return w.Watch.Next(ctx)
}
