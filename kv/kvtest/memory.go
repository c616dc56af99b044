package kvtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/libcluster/libcluster/kv"
)

// maxHistory is how many commits a space remembers at least.
const maxHistory = 10_000

// Memory is a [kv.Store] in memory, as plain as one can be. Make one with [NewMemory]. It
// works in the bubbles of [testing/synctest], and has no goroutine of its own.
type Memory struct {
	name string // of its history

	mu     sync.Mutex // guards everything below; nobody waits while holding it
	spaces map[string]*contents
	queue  []*lease    // those that live, the one that expires next first
	begun  int64       // how many leases have ever begun
	alarm  *time.Timer // rings when the next lease expires
	armed  time.Time   // for when alarm is set; zero: it is not
}

var _ kv.Lister = (*Memory)(nil)

// contents is what one space holds, and what has become of it.
type contents struct {
	revision int64 // of its last commit
	records  map[string]kv.Record
	leases   map[kv.Owner]*lease // all that have ever begun
	history  []commit
	dropped  int64         // the revision up to which history is gone
	epoch    int           // grows when the space is set back
	changed  chan struct{} // closed on the next change; nil while nobody waits
}

type commit struct {
	revision int64
	changes  []kv.Change
}

// NewMemory returns a store without any record.
func NewMemory() *Memory {
	return &Memory{name: rand.Text(), spaces: make(map[string]*contents)}
}

// String returns "memory".
func (m *Memory) String() string { return "memory" }

// Open opens a space.
func (m *Memory) Open(ctx context.Context, name string) (kv.Space, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkName("space", name, 800); err != nil {
		return nil, err
	}
	return &space{m: m, name: name}, nil
}

// Spaces returns the names of the spaces that have ever had a lease.
func (m *Memory) Spaces(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.lock()
	defer m.unlock()
	var names []string
	for name, c := range m.spaces {
		if len(c.leases) > 0 {
			names = append(names, name)
		}
	}
	return names, nil
}

func checkName(what, name string, most int) error {
	if name == "" || len(name) > most || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%w: a %s's name must be 1 to %d bytes of printable UTF-8, not %.100q", kv.ErrRefused, what, most, name)
	}
	return nil
}

// contents returns what the space of that name holds. A space begins at revision 1, so
// that no mark is 0: a watch from 0 is one from now.
func (m *Memory) contents(name string) *contents {
	c := m.spaces[name]
	if c == nil {
		c = &contents{revision: 1, records: make(map[string]kv.Record), leases: make(map[kv.Owner]*lease)}
		m.spaces[name] = c
	}
	return c
}

// get returns a record as a caller may keep it. One that is not there has only its key.
func (c *contents) get(key string) kv.Record {
	r, ok := c.records[key]
	if !ok {
		return kv.Record{Key: key}
	}
	r.Value = bytes.Clone(r.Value)
	return r
}

func (c *contents) list(prefix string) []kv.Record {
	var records []kv.Record
	for key := range c.records {
		if strings.HasPrefix(key, prefix) {
			records = append(records, c.get(key))
		}
	}
	slices.SortFunc(records, func(a, b kv.Record) int { return strings.Compare(a.Key, b.Key) })
	return records
}

// write puts and deletes records in one commit, if that changes anything.
func (c *contents) write(puts []kv.Record, deletes []string) {
	revision := c.revision + 1
	var changes []kv.Change
	for _, r := range puts {
		r.Value = bytes.Clone(r.Value)
		r.Version, r.Created = revision, revision
		if old, ok := c.records[r.Key]; ok {
			r.Created = old.Created
		}
		c.records[r.Key] = r
		changes = append(changes, kv.Change{Record: r})
	}
	for _, key := range deletes {
		if _, ok := c.records[key]; !ok {
			continue
		}
		delete(c.records, key)
		changes = append(changes, kv.Change{Record: kv.Record{Key: key, Version: revision}, Gone: true})
	}
	if len(changes) == 0 {
		return
	}
	c.revision = revision
	if len(c.history) >= 2*maxHistory {
		rest := c.history[len(c.history)-maxHistory:]
		c.dropped = rest[0].revision - 1
		c.history = slices.Clone(rest)
	}
	c.history = append(c.history, commit{revision, changes})
	c.wake()
}

// wake wakes everybody that waits for a change of the space.
func (c *contents) wake() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// change returns the channel that the next change closes. The first that waits for it makes
// it, so that it belongs to the bubble of those that wait.
func (c *contents) change() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// Forget drops the history of a space. Every watch gets [kv.ErrMissed], also a watch that
// had read all of the history.
func (m *Memory) Forget(space string) {
	m.lock()
	defer m.unlock()
	c := m.contents(space)
	c.epoch++
	c.forget()
}

func (c *contents) forget() {
	c.history, c.dropped = nil, c.revision
	c.wake()
}

// Snapshot is a space at one moment. The zero Snapshot is that of a new space.
type Snapshot struct {
	revision int64
	records  []kv.Record
	owners   []kv.Owner // whose leases lived
}

// Snapshot returns the space as of now, for [Memory.Restore].
func (m *Memory) Snapshot(space string) Snapshot {
	m.lock()
	defer m.unlock()
	c := m.contents(space)
	snapshot := Snapshot{revision: c.revision, records: c.list("")}
	for owner, l := range c.leases {
		if !l.ended {
			snapshot.owners = append(snapshot.owners, owner)
		}
	}
	return snapshot
}

// Restore sets a space back to a snapshot of its own, as restoring a backup does without
// telling: the revision shrinks, and the name of the history stays. Leases that have begun
// since are over. Those that lived then have their whole time again, even if they have
// ended since. Every watch gets [kv.ErrMissed].
func (m *Memory) Restore(space string, snapshot Snapshot) {
	m.lock()
	defer m.unlock()
	c := m.contents(space)
	c.revision = max(snapshot.revision, 1)
	c.records = make(map[string]kv.Record)
	for _, r := range snapshot.records {
		r.Value = bytes.Clone(r.Value)
		c.records[r.Key] = r
	}
	for _, l := range c.leases {
		m.unqueue(l)
		l.ended = true
	}
	for _, owner := range snapshot.owners {
		l := c.leases[owner]
		l.ended = false
		m.enqueue(l)
	}
	c.epoch++
	c.forget()
}
