package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/libcluster/libcluster/kv"
)

const (
	// Of the old documents that many are kept, and between these bounds as many as fit into
	// keptBytes. Two would do for the proof at [folder]. The others are for those that
	// read slowly: a watch that comes later than this has missed something.
	keepLeast = 64
	keepMost  = 1024
	keptBytes = 64 << 20
	// pruneEvery is after how many documents old ones are removed.
	pruneEvery = 32
	// hidden is for how long a cache of a network may say of a name that it is not there.
	hidden = 5 * time.Minute
	// sweepEvery is after how many documents it is looked for what the dead have left, and
	// abandoned how old that is. To remove what a sleeper still needs costs it another attempt.
	sweepEvery = 512
	abandoned  = time.Hour
)

// errUnknown is that this process was asleep, or the folder was changed by hand.
var errUnknown = errors.New("it is unknown whether it was done: too much has happened meanwhile")

// swap has the newest document followed by another one, and returns that one, or the newest if
// there is nothing to change. A verdict of the change is of an instant after the call. On a
// network only a link tells which document is the newest, and so there is always one.
func (f *folder) swap(ctx context.Context, c change) (*document, error) {
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-f.turn }()
	for again := (pause{}); ; {
		d, err := f.newest(ctx)
		if err != nil {
			return nil, err
		}
		n, verdict := c(d, newID())
		if n == nil {
			if !d.network {
				return d, verdict
			}
			n = d.next(newID())
		}
		done, err := f.follows(n, d)
		if err != nil {
			return nil, err
		}
		if done {
			f.learn(n)
			f.tidy(n)
			return n, verdict
		}
		if err := again.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// follows has a document follow another one, and reports whether it does. If it does not,
// there is another one that does. An error says nothing.
//
// A process may be killed or stopped between any two of these calls. Before the link nobody
// knows of the document, and after it all do.
func (f *folder) follows(n, d *document) (bool, error) {
	f.mu.Lock()
	n.oldest = max(n.oldest, f.removed)
	f.mu.Unlock()
	file, err := n.encode()
	if err != nil {
		return false, err
	}
	if n.size > maxDocument {
		return false, fmt.Errorf("%w: all that the space holds would take %d bytes, and may take %d", kv.ErrRefused, n.size, maxDocument)
	}
	draft := f.at(temporary + n.id)
	if err := f.files.write(draft, file, n.network); err != nil {
		_ = f.files.remove(draft)
		return false, err
	}
	err = f.files.link(draft, f.document(n.number))
	if err != nil {
		err = f.settle(n, err)
	}
	_ = f.files.remove(draft) // or what tidies up will
	switch {
	case errors.Is(err, fs.ErrExist):
		return false, nil
	case err != nil:
		return false, err
	}
	there, err := f.there(d)
	if err == nil && !there {
		// If all had accepted it before, it is not for this process to remove it. If not, nobody
		// will, and it is swept.
		f.lose(d)
		err = errUnknown
	}
	return err == nil, err
}

// settle returns what a link that has failed comes to. A server may have done it, and its answer
// been lost. So what has the number decides. How many links the draft has would not: another
// program may have linked it too, and a cache may hold an old count.
func (f *folder) settle(n *document, failed error) error {
	sign, err := f.signAt(n.number)
	switch {
	case err == nil && sign == n.sign:
		return nil
	case err != nil && errors.Is(failed, fs.ErrExist):
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return failed
}

// tidy removes old documents from time to time. What it fails to do is done later.
func (f *folder) tidy(d *document) {
	if d.number%min(pruneEvery, f.store.keep) == 0 {
		_ = f.prune(d)
	}
	if d.number%sweepEvery == 0 {
		_ = f.sweep(d)
	}
}

// prune removes old documents in ascending order. It goes by what the document says to have been
// removed, and not by a listing. On a network a name that is there may seem to be removed for
// a while, and so it removes only what is older than the lowest that stays, which must be old.
//
// First it has the two lowest that stay outlast a power cut: a newcomer accepts the second by the
// first. After a power cut those that were written later may be empty, which is as if they had
// changed nothing.
func (f *folder) prune(d *document) error {
	bottom := d.number - min(max(int64(keptBytes/d.size), keepLeast), f.store.keep)
	for d.network && bottom > d.oldest && !f.older(f.document(bottom), d, hidden) {
		bottom -= keepLeast
	}
	for bottom > d.oldest && !f.acceptable(bottom+1) { // there is garbage between documents
		bottom--
	}
	if bottom <= d.oldest {
		return nil
	}
	for _, number := range []int64{bottom, bottom + 1} {
		if err := f.files.sync(f.document(number)); err != nil {
			return err
		}
	}
	return f.removeBelow(d, bottom)
}

// acceptable reports whether a newcomer can begin with a document.
func (f *folder) acceptable(number int64) bool {
	_, err := f.accept(number)
	return err == nil
}

func (f *folder) removeBelow(d *document, bottom int64) error {
	for number := d.oldest; number < bottom; number++ {
		if err := f.files.remove(f.document(number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f.mu.Lock()
		f.removed = number + 1
		f.mu.Unlock()
	}
	return nil
}

// sweep removes what processes have left that were killed or asleep: documents that nobody links or
// that nobody accepts, and heartbeats of leases that have ended.
func (f *folder) sweep(d *document) error {
	names, err := f.files.list(f.path)
	if err != nil {
		return err
	}
	for _, name := range names {
		number, owner := numberOf(name), ownerOf(name)
		_, lives := d.leases[owner]
		switch {
		case number > 0 && number < d.oldest:
		case (owner != 0 && !lives || strings.HasPrefix(name, temporary)) && f.older(f.at(name), d, abandoned):
		default:
			continue
		}
		_ = f.files.remove(f.at(name))
	}
	return nil
}

// older reports whether a file was written that long before a document, by the clock of the file system.
func (f *folder) older(name string, d *document, than time.Duration) bool {
	written, err := f.files.modified(name)
	now, e := f.files.modified(f.document(d.number))
	return err == nil && e == nil && now.Sub(written) > than
}
