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
	h, err := calls.Do(ctx, sp.life, "opening a watch", func(ctx context.Context) (head, error) {
		h, _, err := sp.lookOnce(ctx, sp.store.onPool, selectRecords, none, none)
		return h, err
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
	a, err := calls.Do(ctx, w.life, "watching", func(ctx context.Context) (answer, error) {
		h, changes, err := w.sp.look(ctx, w.sp.store.onPool, selectChanges, []byte(w.prefix), past(w.prefix), after, after+window)
		return answer{h, changes}, err
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
