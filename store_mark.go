package libcluster

import (
	"fmt"
	"sync"

	"github.com/libcluster/libcluster/kv"
)

// storeMark is how far its store has come, as far as a session has been told.
type storeMark struct {
	mu   sync.Mutex // guards what follows
	mark kv.Mark    // the latest that an answer has told
}

// sameStore tells whether an answer comes from the store that the mark was taken of, and
// of no earlier time. Only a mark from before the request may be asked about, since answers
// overtake one another.
func (m *storeMark) sameStore(before, now kv.Mark) error {
	switch {
	case before.Store != "" && now.Store != before.Store:
		return fmt.Errorf("%w: the store is %s, and was %s", ErrRegistryReset, now.Store, before.Store)
	case now.Revision < before.Revision:
		return fmt.Errorf("%w: the store is at revision %d, and was at %d", ErrRegistryReset, now.Revision, before.Revision)
	}
	m.noted(now)
	return nil
}

// noted notes how far the store has come.
func (m *storeMark) noted(now kv.Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mark.Store == "" || m.mark.Store == now.Store && now.Revision > m.mark.Revision {
		m.mark = now
	}
}

// heard notes how far the store had come that a watch has told of. A watch may be resumed in
// another store without a word.
func (m *storeMark) heard(now kv.Mark) error {
	if before := m.latest().Store; before != "" && now.Store != "" && now.Store != before {
		return fmt.Errorf("%w: the store is %s, and was %s", ErrRegistryReset, now.Store, before)
	}
	m.noted(now)
	return nil
}

// latest returns the latest mark, to be taken before a request is sent.
func (m *storeMark) latest() kv.Mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mark
}
