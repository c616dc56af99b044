package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/libcluster/libcluster/internal/calls"
	"github.com/libcluster/libcluster/kv"
)

// none is no key, so nothing is from none to none.
var none = []byte{0xff}

// window is how many revisions a watch reads at once.
const window = 256

const (
	// answerWithin is how long a watch waits at least for what it looks for, longer than one that
	// reads may wait for its turn, and answerPart the part of the shortest lease's time for which it does.
	answerWithin = 2 * reapWithin
	answerPart   = 0.3
	// answerAtMost is for a watch whose space has begun no lease, and doublings how often the time
	// is doubled if there is no answer: the database may only be slow.
	answerAtMost = 10 * time.Second
	doublings    = 5
)

// rest is how long after it has looked a watch that is woken looks again.
const rest = 10 * time.Millisecond

// watch reads the changes from the database.
type watch struct {
	sp     *space
	prefix string
	wake   chan struct{}
	life   context.Context // until it, or the space, is closed
	end    context.CancelFunc

	store  string // which it reads from
	after  int64  // all changes up to this revision have been returned
	looked time.Time
	found  head // when it looked
	over   error
}

func (sp *space) Watch(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
	var h head
	err := sp.soon(ctx, func(ctx context.Context) (err error) {
		h, err = calls.Do(ctx, sp.life, "opening a watch", func(ctx context.Context) (head, error) {
			h, _, err := sp.lookOnce(ctx, sp.store.onPool, selectRecords, none, none)
			return h, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if after == 0 {
		after = h.mark.Revision
	}
	w := &watch{sp: sp, prefix: prefix, store: h.mark.Store, after: after, wake: sp.store.listen(payload(sp.short))}
	w.life, w.end = context.WithCancel(sp.life)
	context.AfterFunc(w.life, func() { sp.store.unlisten(payload(sp.short), w.wake) })
	return w, nil
}

// soon calls f, which has a while for an answer: a line may have died, of which nothing tells. Who
// watches then opens another watch, by another connection.
func (sp *space) soon(ctx context.Context, f func(context.Context) error) error {
	limit := max(answerWithin, min(answerAtMost, time.Duration(answerPart*float64(sp.shortest()))))
	sp.mu.Lock()
	limit <<= sp.unlooked
	sp.mu.Unlock()
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := f(within)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	switch {
	case err == nil:
		sp.unlooked = 0
	case within.Err() != nil && ctx.Err() == nil:
		sp.unlooked = min(sp.unlooked+1, doublings)
	}
	return err
}

func (w *watch) Close() { w.end() }

func (w *watch) Next(ctx context.Context) (kv.Changes, error) {
	for w.over == nil {
		changes, more, err := w.read(ctx)
		switch {
		case err != nil && w.life.Err() == nil && ctx.Err() != nil:
			return kv.Changes{}, err
		case err != nil:
			w.over = err
			w.end()
		case len(changes.Records) > 0:
			return changes, nil
		case !more:
			if err := w.wait(ctx); err != nil {
				return kv.Changes{}, err
			}
		}
	}
	return kv.Changes{}, w.over
}

// read returns the changes that come next, and whether there may be more already.
func (w *watch) read(ctx context.Context) (kv.Changes, bool, error) {
	type answer struct {
		head    head
		changes []kv.Change
	}
	w.looked = time.Now()
	after := w.after // Do may return before the function does
	var a answer
	err := w.sp.soon(ctx, func(ctx context.Context) (err error) {
		a, err = calls.Do(ctx, w.life, "watching", func(ctx context.Context) (answer, error) {
			h, changes, err := w.sp.look(ctx, w.sp.store.onPool, selectChanges, []byte(w.prefix), past(w.prefix), after, after+window)
			return answer{h, changes}, err
		})
		return err
	})
	mark := a.head.mark
	switch {
	case err != nil:
		return kv.Changes{}, false, err
	case mark.Store != w.store:
		return kv.Changes{}, false, fmt.Errorf("watching: %w: this is another store", kv.ErrMissed)
	case mark.Revision < after:
		return kv.Changes{}, false, fmt.Errorf("watching: %w: the store has gone back from revision %d to %d", kv.ErrMissed, after, mark.Revision)
	case after < a.head.pruned:
		return kv.Changes{}, false, fmt.Errorf("watching: %w: revision %d is too old, %d is kept", kv.ErrMissed, after, a.head.pruned)
	}
	w.found = a.head
	w.after = min(after+window, mark.Revision)
	more := w.after < mark.Revision
	if n := len(a.changes); n > 0 {
		mark.Revision = a.changes[n-1].Version
	}
	return kv.Changes{Mark: mark, Records: a.changes}, more, nil
}

// wait waits until it is time to look again.
func (w *watch) wait(ctx context.Context) error {
	again := time.NewTimer(w.sp.store.pause(w.found))
	defer again.Stop()
	wake := w.wake
	for {
		select {
		case <-wake:
			// Of many commits in a row it sees several at once.
			wake = nil
			again.Reset(rest - time.Since(w.looked))
			continue
		case <-again.C:
		case <-w.life.Done(): // Do tells
		case <-ctx.Done():
			return fmt.Errorf("watching: %w", ctx.Err())
		}
		return nil
	}
}
