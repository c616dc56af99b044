package dirstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/libcluster/libcluster/kv"
)

const (
	// maxDocument is how long a document may be. A longer file is garbage.
	maxDocument = 128 << 20
	// remembered is how many of the last documents are kept in memory, and how long they
	// may be in all.
	remembered      = 128
	rememberedBytes = 8 << 20
)

// errLost is that what this process knew is not there any more: it has slept for so long
// that all it knew has been removed, or somebody has put back what was there before.
var errLost = errors.New("the document has been replaced")

// folder is a space as one process knows it, however many have opened it.
//
// # Which documents are true
//
// A process that has accepted a document accepts what it reads under the next number, if the one
// that it had accepted still is under its own number afterwards. A process that comes
// accepts the first document as it is: it came with the folder, and nobody links that number. It
// also accepts a document whose predecessor, the one whose ID it has as prev, is found
// under its number afterwards. Nobody links a document but after one that it has accepted.
//
// Only one document is ever accepted under a number. Say this is so below N, and the one
// document of N-1 is Y. A process that accepts X as N has found Y after it has read X. Names are
// removed in ascending order, N only when N-1 has gone, and Y gets its name once. So until
// then nothing had been removed under N, and X is the first that ever had this name. All
// that are accepted are the first. (A process that has slept for an hour between writing and
// linking may link N anew when both have been removed. Then nobody finds Y, and nobody
// accepts what it has linked; nor does it.)
//
// For the same reason an accepted document was the newest at the instant at which the next number
// was found not to be there, if it is there after that.
//
// In all this a listing decides nothing: it only proposes with which number to begin.
type folder struct {
	store *Store
	files files
	space string
	path  string

	turn  chan struct{} // of the calls that change something
	slots chan struct{} // of all calls: if the disk hangs, there are no more than these

	mu      sync.Mutex    // guards what follows
	recent  []*document   // the last that were accepted, one after another
	removed int64         // all below this number have been removed
	lost    *document     // the newest that was known, if it is not there any more; nil: it is
	turns   int           // how often the space has gone back
	changed chan struct{} // is closed when there is another document, or somebody says so

	tending  sync.Mutex // guards what follows; it is held during calls of files
	observed observer
	tended   time.Time
	own      kv.Owner // from which a round of the leases begins
	beats    int64
}

func newFolder(s *Store, space string) *folder {
	return &folder{
		store: s, files: s.files, space: space, path: folderName(space), turn: make(chan struct{}, 1), slots: make(chan struct{}, 64),
		changed: make(chan struct{}), observed: observer{}, own: kv.Owner(mathrand.Int64()),
	}
}

func (f *folder) at(name string) string { return f.path + "/" + name }

func (f *folder) document(number int64) string { return f.at(documentName(number)) }

// newID returns what nobody else has drawn.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x", b)
}

// prepare makes the folder with its first document, if there is none, in one step: so a folder
// is never without a document, and nobody ever links the first number.
func (f *folder) prepare(ctx context.Context) error {
	d, err := f.newest(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		if err = f.make(); err == nil {
			d, err = f.newest(ctx)
		}
	}
	if err != nil {
		return err
	}
	if d.network != f.store.Network {
		return fmt.Errorf("%w: Network is %v, and was %v for the process that has made the space", kv.ErrRefused, f.store.Network, d.network)
	}
	if err := f.files.mayChange(f.path); err != nil {
		return fmt.Errorf("%w: %w", kv.ErrRefused, err)
	}
	if err := f.try(); forbids(err) {
		return err
	}
	return nil // a disk that is full may have room again
}

// try makes and links a file, as each change does.
func (f *folder) try() error {
	draft, linked := f.at(temporary+newID()), f.at(temporary+newID())
	err := f.files.write(draft, nil, false)
	if err == nil {
		err = f.files.link(draft, linked)
	}
	_, _ = f.files.remove(linked), f.files.remove(draft) // or they are swept
	return err
}

// forbids reports whether an error says that this process may not do so, or that a file system cannot.
func forbids(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EROFS)
}

func (f *folder) make() error {
	file, err := genesis(newID(), newID(), f.store.Network).encode()
	if err != nil {
		return err
	}
	name := unfinished + newID()
	first := name + "/" + documentName(1)
	if err := f.files.mkdir(name); err != nil {
		return err
	}
	err = f.files.write(first, file, true)
	if err == nil && isShortened(f.path) {
		err = f.files.write(name+"/"+fullName, []byte(f.space), true)
	}
	if err == nil {
		err = f.files.rename(name, f.path)
	}
	if err == nil {
		return nil
	}
	_, _ = f.files.remove(name+"/"+fullName), f.files.remove(first) // what is left of it harms nobody
	_ = f.files.remove(name)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was first
	}
	return err
}

// known returns the newest document that this process knows, or nil.
func (f *folder) known() *document {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.recent) == 0 {
		return nil
	}
	return f.recent[len(f.recent)-1]
}

// learn notes a document that has been accepted, and wakes the watches.
func (f *folder) learn(d *document) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch last := len(f.recent) - 1; {
	case last >= 0 && d.prev == f.recent[last].id:
		f.recent = append(f.recent, d)
	case last >= 0 && d.number <= f.recent[last].number:
		return // another goroutine was faster
	default:
		f.recent, f.removed = []*document{d}, 0
	}
	f.ring()
	bytes := 0
	for i, d := range slices.Backward(f.recent) {
		if bytes += d.size; i < len(f.recent)-1 && (bytes > rememberedBytes || len(f.recent)-i > remembered) {
			f.recent = slices.Clone(f.recent[i+1:])
			break
		}
	}
}

// ring wakes the watches. It is called with mu held.
func (f *folder) ring() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// lose forgets what is known, if there is nothing newer than a document that is not there any more.
func (f *folder) lose(d *document) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.recent); n > 0 && f.recent[n-1].id == d.id {
		f.recent, f.removed, f.lost = nil, 0, d
	}
}

// goesOn decides whether a document comes after the one that was lost. If not, somebody has put back
// what was there before, and it may soon come to higher numbers than it had: so it is another history.
func (f *folder) goesOn(d *document) error {
	f.mu.Lock()
	lost := f.lost
	f.mu.Unlock()
	back := false
	if lost != nil && lost.id != d.id {
		sign, err := f.signAt(lost.number)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		back = d.number <= lost.number || err == nil && sign != lost.sign
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost == lost { // or another goroutine was faster
		f.lost = nil
		if back {
			f.turns++
		}
	}
	d.turn = f.turns
	return nil
}

// news returns what is closed when there is another document than the newest known.
func (f *folder) news() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// newest returns a document that was the newest at an instant after the call. (On a network the name of
// the next one may be hidden by a cache for a while. There only a swap tells.)
func (f *folder) newest(ctx context.Context) (*document, error) {
	for again := (pause{}); ; {
		d := f.known()
		var err error
		if d == nil {
			d, err = f.find()
		}
		if err == nil {
			d, err = f.follow(d)
		}
		if !errors.Is(err, errLost) {
			return d, err
		}
		if err := again.wait(ctx); err != nil {
			return nil, fmt.Errorf("%w: %s has no document that follows another one; if it was damaged, remove it when all have left", err, filepath.Join(f.store.dir, f.path))
		}
	}
}

// follow goes from an accepted document to the newest one.
func (f *folder) follow(start *document) (*document, error) {
	last := start
	for {
		next, err := f.after(last)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		there, e := f.there(last)
		switch {
		case e != nil:
			return nil, e
		case !there:
			f.lose(last)
			return nil, errLost
		case err != nil:
			return last, nil
		}
		f.learn(next)
		last = next
	}
}

// after reads what has the number after a document. What does not follow it is garbage: a file
// that somebody has put there, or one whose contents, or whose predecessor, a power cut has taken.
func (f *folder) after(d *document) (*document, error) {
	file, err := f.files.read(f.document(d.number+1), maxDocument+1)
	switch {
	case errors.Is(err, errForeign):
		return d.void(""), nil
	case err != nil:
		return nil, err
	}
	next, err := decode(d.number+1, file)
	if err != nil || len(file) > maxDocument || next.prev != d.id {
		return d.void(signOf(file)), nil
	}
	next.turn = d.turn
	return next, nil
}

// there reports whether a document is under its number.
func (f *folder) there(d *document) (bool, error) {
	sign, err := f.signAt(d.number)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && sign == d.sign, err
}

// signAt returns what the file with a number begins with.
func (f *folder) signAt(number int64) (string, error) {
	file, err := f.files.read(f.document(number), signLength)
	if errors.Is(err, errForeign) {
		return "", nil
	}
	return signOf(file), err
}

// find finds a document that can be accepted, as high as possible: a listing proposes them.
func (f *folder) find() (*document, error) {
	names, err := f.files.list(f.path)
	if err != nil {
		return nil, err
	}
	var numbers []int64
	for _, name := range names {
		if number := numberOf(name); number > 0 {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	for _, number := range slices.Backward(numbers) {
		d, err := f.accept(number)
		if err == nil {
			err = f.goesOn(d)
		}
		if err == nil {
			f.learn(d)
			return d, nil
		}
		if !errors.Is(err, errGarbage) && !errors.Is(err, errForeign) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, errLost
}

// accept reads the document with a number, if it can be accepted by itself.
func (f *folder) accept(number int64) (*document, error) {
	file, err := f.files.read(f.document(number), maxDocument)
	if err != nil {
		return nil, err
	}
	d, err := decode(number, file)
	if err != nil || number == 1 {
		return d, err
	}
	sign, err := f.signAt(number - 1)
	if err == nil && idIn(sign) != d.prev {
		err = errGarbage
	}
	return d, err
}

// pause is how long a process waits that has met another one.
type pause struct{ length time.Duration }

const (
	firstPause = time.Millisecond
	lastPause  = 32 * time.Millisecond
)

// wait waits for a moment, which is longer each time.
func (p *pause) wait(ctx context.Context) error {
	p.length = min(max(firstPause, 2*p.length), lastPause)
	timer := time.NewTimer(mathrand.N(p.length))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
