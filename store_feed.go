package libcluster

import (
	"context"
	"errors"

	"github.com/libcluster/libcluster/kv"
)

// feed is what a session follows of a space: all that is below a prefix, and then what
// changes.
type feed struct {
	space  kv.Space
	prefix string
	watch  kv.Watch // nil: to be opened
	at     int64    // all up to this revision has been taken in; 0: nothing
	missed bool     // changes after it have: all is to be read anew
}

// open opens the watch.
func (f *feed) open(ctx context.Context) (err error) {
	f.watch, err = f.space.Watch(ctx, f.prefix, f.at)
	return f.check(err)
}

// next returns what has changed since.
func (f *feed) next(ctx context.Context) (changes kv.Changes, err error) {
	if f.watch == nil {
		if err := f.open(ctx); err != nil || f.missed {
			return changes, err
		}
	}
	changes, err = f.watch.Next(ctx)
	switch {
	case err == nil:
	case errors.Is(ctx.Err(), context.Canceled):
		f.close() // nobody will ask again soon, and what the watch tells would be kept for ever
		return changes, context.Cause(ctx)
	case ctx.Err() != nil:
		return changes, context.Cause(ctx)
	default:
		return kv.Changes{}, f.check(err)
	}
	for len(changes.Records) > 0 && changes.Records[0].Version <= f.at {
		changes.Records = changes.Records[1:]
	}
	f.at = max(f.at, changes.Mark.Revision)
	return changes, nil
}

// check gives the watch up after an error. That it has missed something is none: it is
// mended by reading all.
func (f *feed) check(err error) error {
	if err == nil {
		return nil
	}
	f.close()
	if errors.Is(err, kv.ErrMissed) {
		f.missed = true
		return nil
	}
	return err
}

func (f *feed) close() {
	if f.watch != nil {
		f.watch.Close()
		f.watch = nil
	}
}

// read notes that all has been read.
func (f *feed) read(at int64) { f.at, f.missed = at, false }

// storeNews is what Next goes by. One goroutine uses it.
type storeNews struct {
	feed    feed
	listed  *Change  // not returned yet
	weights *weights // of the members, if Next reports them
	now     Planning // in a mode with a plan
}
