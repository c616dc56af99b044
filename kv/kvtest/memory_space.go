package kvtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// lease holds the records of its space that have its owner.
type lease struct {
	owner   kv.Owner
	in      *contents
	number  int64 // leases are numbered as they begin
	ttl     time.Duration
	expires time.Time
	ended   bool
}

// lock takes the mutex and brings the store up to now, so that nobody ever sees a record
// whose lease has passed, whether or not the alarm has been served yet.
func (m *Memory) lock() {
	m.mu.Lock()
	for now := time.Now(); len(m.queue) > 0 && !m.queue[0].expires.After(now); {
		m.end(m.queue[0])
	}
}

func (m *Memory) unlock() {
	m.arm()
	m.mu.Unlock()
}

// arm sets the alarm for the lease that expires next. One alarm serves all leases: those of
// one instant then end in the order in which they have begun.
func (m *Memory) arm() {
	if len(m.queue) == 0 || m.queue[0].expires.Equal(m.armed) {
		return // one alarm too many finds nothing to do
	}
	m.armed = m.queue[0].expires
	if m.alarm == nil {
		m.alarm = time.AfterFunc(time.Until(m.armed), m.ring)
	} else {
		m.alarm.Reset(time.Until(m.armed))
	}
}

func (m *Memory) ring() {
	m.lock()
	m.armed = time.Time{}
	m.unlock()
}

// end ends a lease. Its records go in one commit.
func (m *Memory) end(l *lease) {
	m.unqueue(l)
	l.ended = true
	var keys []string
	for key, r := range l.in.records {
		if r.Owner == l.owner {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	l.in.write(nil, keys)
}

// enqueue gives a lease its whole time.
func (m *Memory) enqueue(l *lease) {
	l.expires = time.Now().Add(l.ttl)
	i, _ := slices.BinarySearchFunc(m.queue, l, sooner)
	m.queue = slices.Insert(m.queue, i, l)
}

func (m *Memory) unqueue(l *lease) {
	if i, ok := slices.BinarySearchFunc(m.queue, l, sooner); ok {
		m.queue = slices.Delete(m.queue, i, i+1)
	}
}

func sooner(a, b *lease) int {
	return cmp.Or(a.expires.Compare(b.expires), cmp.Compare(a.number, b.number))
}

// living returns the lease of an owner.
func (c *contents) living(owner kv.Owner) (*lease, error) {
	l := c.leases[owner]
	switch {
	case l == nil:
		return nil, fmt.Errorf("%w: that of owner %d has never begun", kv.ErrEnded, owner)
	case l.ended:
		return nil, fmt.Errorf("%w: that of owner %d", kv.ErrEnded, owner)
	}
	return l, nil
}

// space is one opening of a space.
type space struct {
	m      *Memory
	name   string
	closed bool // under the store's mutex
}

// do has an effect on what the space holds, at one instant.
func (s *space) do(ctx context.Context, effect func(c *contents) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.m.lock()
	defer s.m.unlock()
	if s.closed {
		return kv.ErrClosed
	}
	return effect(s.m.contents(s.name))
}

func (s *space) mark(c *contents) kv.Mark { return kv.Mark{Store: s.m.name, Revision: c.revision} }

// Begin begins a lease, and grants what is asked for. An owner is refused that has had one.
func (s *space) Begin(ctx context.Context, owner kv.Owner, ttl time.Duration) (granted time.Duration, err error) {
	err = s.do(ctx, func(c *contents) error {
		if owner <= 0 || ttl <= 0 {
			return fmt.Errorf("%w: a lease of %v for owner %d", kv.ErrRefused, ttl, owner)
		}
		if c.leases[owner] != nil {
			return fmt.Errorf("%w: owner %d has begun a lease before", kv.ErrRefused, owner)
		}
		s.m.begun++
		l := &lease{owner: owner, in: c, number: s.m.begun, ttl: ttl}
		c.leases[owner] = l
		s.m.enqueue(l)
		granted = ttl
		return nil
	})
	return granted, err
}

// Renew has a lease live for its whole time from now on.
func (s *space) Renew(ctx context.Context, owner kv.Owner) (ttl time.Duration, err error) {
	err = s.do(ctx, func(c *contents) error {
		l, err := c.living(owner)
		if err != nil {
			return err
		}
		s.m.unqueue(l)
		s.m.enqueue(l)
		ttl = l.ttl
		return nil
	})
	return ttl, err
}

// End ends a lease.
func (s *space) End(ctx context.Context, owner kv.Owner) error {
	return s.do(ctx, func(c *contents) error {
		if l, err := c.living(owner); err == nil {
			s.m.end(l)
		}
		return nil
	})
}

// Get returns the record of a key.
func (s *space) Get(ctx context.Context, key string) (record kv.Record, mark kv.Mark, err error) {
	err = s.do(ctx, func(c *contents) error {
		record, mark = c.get(key), s.mark(c)
		return checkName("record", key, 600)
	})
	return record, mark, err
}

// List hands over all records whose keys begin with prefix.
func (s *space) List(ctx context.Context, prefix string, each func(kv.Record) error) (mark kv.Mark, err error) {
	var records []kv.Record
	err = s.do(ctx, func(c *contents) error {
		records, mark = c.list(prefix), s.mark(c)
		return nil
	})
	if err != nil {
		return mark, err
	}
	return mark, hand(records, each)
}

func hand(records []kv.Record, each func(kv.Record) error) error {
	for _, r := range records {
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

// Commit carries out a transaction if all its conditions hold.
func (s *space) Commit(ctx context.Context, tx kv.Tx) (result kv.Result, err error) {
	if err := checkTx(tx); err != nil {
		return kv.Result{}, err
	}
	var listed []kv.Record
	err = s.do(ctx, func(c *contents) error {
		holds := true
		var found []kv.Record
		for _, condition := range tx.If {
			r := c.get(condition.Key)
			found = append(found, r)
			holds = holds && condition.Holds(r)
		}
		if !holds {
			result = kv.Result{Mark: s.mark(c), Records: found}
			return nil
		}
		for _, r := range tx.Put {
			if r.Owner == 0 {
				continue
			}
			if _, err := c.living(r.Owner); err != nil {
				return fmt.Errorf("putting %q: %w", r.Key, err)
			}
		}
		c.write(tx.Put, tx.Delete)
		result = kv.Result{Done: true, Mark: s.mark(c)}
		if tx.Each != nil {
			listed = c.list(tx.Prefix)
		}
		return nil
	})
	if err != nil {
		return result, err
	}
	return result, hand(listed, tx.Each)
}

// checkTx refuses what is no transaction.
func checkTx(tx kv.Tx) error {
	keys := slices.Clone(tx.Delete)
	for _, r := range tx.Put {
		if len(r.Value) > 1<<20 || r.Owner < 0 {
			return fmt.Errorf("%w: a value of %d bytes for owner %d", kv.ErrRefused, len(r.Value), r.Owner)
		}
		keys = append(keys, r.Key)
	}
	slices.Sort(keys)
	for i, key := range keys {
		if i > 0 && key == keys[i-1] {
			return fmt.Errorf("%w: key %q is in it twice", kv.ErrRefused, key)
		}
	}
	for _, c := range tx.If {
		keys = append(keys, c.Key)
	}
	for _, key := range keys {
		if err := checkName("record", key, 600); err != nil {
			return err
		}
	}
	return nil
}

// Watch opens a watch.
func (s *space) Watch(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
	w := &watch{s: s, prefix: prefix, seen: after}
	err := s.do(ctx, func(c *contents) error {
		w.epoch = c.epoch
		if after == 0 {
			w.seen = c.revision
		}
		w.over = after < 0 || after > c.revision // of a history that is none of the space's
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Close ends every call and watch.
func (s *space) Close() error {
	s.m.lock()
	defer s.m.unlock()
	s.closed = true
	s.m.contents(s.name).wake()
	return nil
}

// watch is a place in the history of a space.
type watch struct {
	s      *space
	prefix string
	// The following are under the store's mutex.
	epoch  int
	seen   int64 // the revision up to which everything has been returned
	over   bool  // something has been missed
	closed bool
}

var errWatchClosed = errors.New("the watch is closed")

// Next waits for changes.
func (w *watch) Next(ctx context.Context) (kv.Changes, error) {
	for {
		changes, changed, err := w.take(ctx)
		if err != nil || changed == nil {
			return changes, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return kv.Changes{}, ctx.Err()
		}
	}
}

// take returns the changes that there are, or what to wait for.
func (w *watch) take(ctx context.Context) (changes kv.Changes, changed <-chan struct{}, err error) {
	err = w.s.do(ctx, func(c *contents) error {
		switch {
		case w.closed:
			return errWatchClosed
		case w.over || w.epoch != c.epoch || w.seen < c.dropped:
			w.over = true
			return kv.ErrMissed
		}
		i, _ := slices.BinarySearchFunc(c.history, w.seen+1, func(one commit, revision int64) int {
			return cmp.Compare(one.revision, revision)
		})
		for _, one := range c.history[i:] {
			for _, change := range one.changes {
				if strings.HasPrefix(change.Key, w.prefix) {
					change.Value = slices.Clone(change.Value)
					changes.Records = append(changes.Records, change)
					changes.Mark = kv.Mark{Store: w.s.m.name, Revision: one.revision}
				}
			}
		}
		w.seen = c.revision
		if changes.Records == nil {
			changed = c.change()
		}
		return nil
	})
	return changes, changed, err
}

// Close ends the watch.
func (w *watch) Close() {
	w.s.m.lock()
	defer w.s.m.unlock()
	w.closed = true
	w.s.m.contents(w.s.name).wake()
}
