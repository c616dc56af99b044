package dirstore

import (
	"context"
	"sync"
	"time"
)

// Forget removes all documents of a space that are not needed.
func (s *Store) Forget(ctx context.Context, space string) error {
	f := s.folder(space)
	d, err := f.newest(ctx)
	if err != nil {
		return err
	}
	return f.removeBelow(d, d.number-1)
}

// Around has something done around each call of files, by name: it calls do, or
// returns another error.
func (s *Store) Around(f func(call, name string, do func() error) error) {
	s.files = hooked{s.files, f}
}

// Keep sets how many documents are kept at most.
func (s *Store) Keep(documents int64) { s.keep = documents }

// ListLate has listings be those of a time before.
func (s *Store) ListLate(by time.Duration) {
	s.files = &lateLists{files: s.files, by: by, seen: map[string]listing{}}
}

// Name returns the name of the folder of a space.
func Name(space string) string { return folderName(space) }

type listing struct {
	at    time.Time
	names []string
}

// lateLists has listings be late, as a cache of a network has them.
type lateLists struct {
	files
	by time.Duration

	mu   sync.Mutex
	seen map[string]listing
}

func (l *lateLists) list(folder string) ([]string, error) {
	names, err := l.files.list(folder)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if seen, is := l.seen[folder]; is && time.Since(seen.at) < l.by {
		return seen.names, nil
	}
	l.seen[folder] = listing{time.Now(), names}
	return names, nil
}

// ErrUnknown is what a process is told that was asleep.
var ErrUnknown = errUnknown

// Lose has a process know nothing of a space.
func (s *Store) Lose(space string) {
	f := s.folder(space)
	if d := f.known(); d != nil {
		f.lose(d)
	}
}
