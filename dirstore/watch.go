package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// watch is a document up to which all has been returned.
type watch struct {
	sp     *space
	prefix string
	life   context.Context // until it, or the space, is closed
	end    context.CancelFunc
	last   *document
	over   error
}

// Watch opens a watch.
func (sp *space) Watch(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
	const what = "opening a watch"
	newest, err := sp.read(ctx, what)
	d := newest
	if err == nil && after != 0 && after != d.number {
		d, err = call(ctx, sp.life, sp.f, what, func(context.Context) (*document, error) { return sp.f.since(newest, after) })
	}
	if err != nil {
		return nil, err
	}
	w := &watch{sp: sp, prefix: prefix, last: d}
	w.life, w.end = context.WithCancel(sp.life)
	return w, nil
}

// since returns the document with a number that newer ones have followed.
func (f *folder) since(newest *document, number int64) (*document, error) {
	if number < 0 || number > newest.number {
		return nil, fmt.Errorf("%w: the space has come to revision %d, and not to %d", kv.ErrMissed, newest.number, number)
	}
	d, err := f.accept(number)
	if err == nil {
		d.turn = newest.turn
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errGarbage) || errors.Is(err, errForeign) {
		err = fmt.Errorf("%w: revision %d is not there any more", kv.ErrMissed, number)
	}
	return d, err
}

func (w *watch) Close() { w.end() }

// Next looks for what comes next, again and again.
func (w *watch) Next(ctx context.Context) (kv.Changes, error) {
	for w.over == nil {
		news := w.sp.f.news()
		changes, err := w.read(ctx)
		switch {
		case err != nil && w.life.Err() == nil && ctx.Err() != nil:
			return kv.Changes{}, err
		case err != nil:
			w.over = err
			w.end()
		case len(changes.Records) > 0:
			return changes, nil
		default:
			if err := w.wait(ctx, news); err != nil {
				return kv.Changes{}, err
			}
		}
	}
	return kv.Changes{}, w.over
}

// read returns what all documents have changed that are new.
func (w *watch) read(ctx context.Context) (kv.Changes, error) {
	last := w.last // Do may return before the function does
	path, err := call(ctx, w.life, w.sp.f, "watching", func(ctx context.Context) ([]*document, error) {
		return w.sp.f.between(ctx, last)
	})
	if err != nil || len(path) == 0 {
		return kv.Changes{}, err
	}
	var changes kv.Changes
	for _, d := range path {
		if some := d.changes(w.prefix); len(some) > 0 {
			changes.Records = append(changes.Records, some...)
			changes.Mark = d.mark()
		}
	}
	w.last = path[len(path)-1]
	return changes, nil
}

// between returns the documents that have followed one, up to the newest. They lead to one that
// was accepted, so all of them are true.
func (f *folder) between(ctx context.Context, last *document) ([]*document, error) {
	newest, err := f.newest(ctx)
	if err != nil {
		return nil, err
	}
	var path []*document
	for d := last; d.id != newest.id; path = append(path, d) {
		if d.number >= newest.number {
			return nil, fmt.Errorf("%w: the space has gone back from revision %d to %d", kv.ErrMissed, last.number, newest.number)
		}
		next := f.remembered(d)
		if next == nil {
			next, err = f.after(d)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%w: revision %d is not there any more", kv.ErrMissed, d.number+1)
		case err != nil:
			return nil, err
		}
		d = next
	}
	return path, nil
}

// remembered returns the document after one, if this process remembers it.
func (f *folder) remembered(d *document) *document {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.recent) == 0 {
		return nil
	}
	if i := d.number + 1 - f.recent[0].number; i >= 0 && i < int64(len(f.recent)) && f.recent[i].prev == d.id {
		return f.recent[i]
	}
	return nil
}

// wait waits until it is time to look again.
func (w *watch) wait(ctx context.Context, news <-chan struct{}) error {
	again := time.NewTimer(w.sp.f.store.poll())
	defer again.Stop()
	select {
	case <-news:
	case <-again.C:
	case <-w.life.Done(): // Do tells
	case <-ctx.Done():
		return fmt.Errorf("watching: %w", ctx.Err())
	}
	return nil
}
