package dirstore

import (
	"context"
	"fmt"

	"github.com/libcluster/libcluster/internal/calls"
	"github.com/libcluster/libcluster/kv"
)

// space is a folder as one user has opened it.
type space struct {
	f    *folder
	life context.Context // until it is closed
	end  context.CancelFunc
}

func newSpace(f *folder) *space {
	sp := &space{f: f}
	sp.life, sp.end = context.WithCancel(context.Background())
	return sp
}

// Close never fails.
func (sp *space) Close() error {
	sp.end()
	return nil
}

// call carries out a call. Calls of files cannot be cancelled; while a disk hangs there are no
// more of them than slots.
func call[T any](ctx, life context.Context, f *folder, what string, do func(context.Context) (T, error)) (T, error) {
	return calls.Do(ctx, life, what, func(ctx context.Context) (value T, err error) {
		select {
		case f.slots <- struct{}{}:
		case <-ctx.Done():
			return value, ctx.Err()
		}
		defer func() { <-f.slots }()
		value, err = do(ctx)
		if err == nil {
			f.tend(ctx)
		}
		return value, err
	})
}

// read returns the newest document of an instant after the call.
func (sp *space) read(ctx context.Context, what string) (*document, error) {
	return call(ctx, sp.life, sp.f, what, func(ctx context.Context) (*document, error) {
		if sp.f.store.Network {
			return sp.f.swap(ctx, func(*document, string) (*document, error) { return nil, nil })
		}
		return sp.f.newest(ctx)
	})
}

// Get returns the record of a key.
func (sp *space) Get(ctx context.Context, key string) (kv.Record, kv.Mark, error) {
	d, err := sp.read(ctx, "reading a record")
	if err != nil {
		return kv.Record{}, kv.Mark{}, err
	}
	return d.get(key), d.mark(), nil
}

// List hands over all records whose keys begin with prefix.
func (sp *space) List(ctx context.Context, prefix string, each func(kv.Record) error) (kv.Mark, error) {
	d, err := sp.read(ctx, "listing records")
	if err != nil {
		return kv.Mark{}, err
	}
	return d.mark(), calls.Hand(d.list(prefix), each)
}

// Commit carries out a transaction.
func (sp *space) Commit(ctx context.Context, tx kv.Tx) (kv.Result, error) {
	const what = "committing a transaction"
	if err := calls.CheckTx(tx); err != nil {
		return kv.Result{}, fmt.Errorf("%s: %w: %w", what, kv.ErrRefused, err)
	}
	type answer struct {
		kv.Result
		d *document
	}
	a, err := call(ctx, sp.life, sp.f, what, func(ctx context.Context) (a answer, err error) {
		a.d, err = sp.f.swap(ctx, func(d *document, id string) (n *document, err error) {
			a.Result, n, err = d.commit(tx, id)
			return n, err
		})
		return a, err
	})
	if err != nil {
		return kv.Result{}, err
	}
	if !a.Done || tx.Each == nil {
		return a.Result, nil
	}
	return a.Result, calls.Hand(a.d.list(tx.Prefix), tx.Each)
}
