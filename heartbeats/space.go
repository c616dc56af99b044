package heartbeats

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// space is a space whose first lease has heartbeats. The records in which leases say how they are
// heard are not shown.
type space struct {
	kv.Space
	store *Store
	name  string

	// commits is held for reading by each Commit, and for a moment when the first lease is about
	// to begin: so a Commit either comes to the store before that, and finds no lease, or knows.
	commits sync.RWMutex

	closing   chan struct{} // closed by Close
	mu        sync.Mutex    // guards what follows
	closed    bool
	speaks    bool     // the first lease has begun, or is about to
	begins    kv.Owner // the first lease, while it is being begun
	own       kv.Owner // the first lease, once it has begun
	voice     *voice   // nil: there is none
	published bool     // the store has how it is heard
	waited    kv.Owner // the lease that it was seen by while it waited; 0: none
	isolated  bool     // it has stepped down
}

// Begin begins a lease.
func (sp *space) Begin(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
	if !sp.isFirst(owner) {
		return sp.Space.Begin(ctx, owner, ttl)
	}
	granted, v, err := sp.begin(ctx, owner, ttl)
	sp.mu.Lock()
	sp.speaks, sp.begins = err == nil, 0
	if err == nil && !sp.closed {
		sp.own, sp.voice, v = owner, v, nil
	}
	sp.mu.Unlock()
	if v != nil { // the space was closed meanwhile
		v.stop()
	}
	return granted, err
}

// isFirst reports whether a lease that is about to begin shall have heartbeats.
func (sp *space) isFirst(owner kv.Owner) bool {
	sp.mu.Lock()
	first := !sp.speaks
	sp.speaks = true
	sp.mu.Unlock()
	if !first {
		return false // and waits for no Commit
	}
	sp.commits.Lock()
	defer sp.commits.Unlock()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.begins = owner
	return true
}

func (sp *space) begin(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, *voice, error) {
	v, err := sp.store.newVoice(ctx, sp.Space, sp.name)
	if err != nil {
		return 0, nil, fmt.Errorf("beginning a lease: %w", err)
	}
	if sp.store.config.Require {
		v.isolated = func(ctx context.Context) { sp.stepDown(ctx, v, owner, ttl) }
		err = sp.wait(ctx, ttl)
	}
	granted := time.Duration(0)
	if err == nil {
		granted, err = sp.Space.Begin(ctx, owner, ttl)
	}
	if err != nil {
		v.stop()
		return 0, nil, err
	}
	v.start(owner, granted)
	return granted, v, nil
}

// Renew renews a lease. If the instance has stepped down the error wraps ErrIsolated too.
func (sp *space) Renew(ctx context.Context, owner kv.Owner) (time.Duration, error) {
	ttl, err := sp.Space.Renew(ctx, owner)
	sp.mu.Lock()
	over := sp.isolated && owner == sp.own
	sp.mu.Unlock()
	if over {
		return 0, fmt.Errorf("renewing a lease: %w: %w", kv.ErrEnded, ErrIsolated)
	}
	return ttl, err
}

// Get returns a record. In a space that has stepped down there is nothing to be found.
func (sp *space) Get(ctx context.Context, key string) (kv.Record, kv.Mark, error) {
	if sp.isIsolated() {
		return kv.Record{}, kv.Mark{}, fmt.Errorf("reading a record: %w", ErrIsolated)
	}
	return sp.Space.Get(ctx, key)
}

func (sp *space) isIsolated() bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.isolated
}

// End ends a lease. A lease that has ended sends no heartbeats any more.
func (sp *space) End(ctx context.Context, owner kv.Owner) error {
	err := sp.Space.End(ctx, owner)
	if err != nil {
		return err
	}
	sp.tell()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.voice != nil && owner == sp.own {
		sp.voice.cancel()
	}
	return nil
}

// List hands over all records whose keys begin with a prefix, but those of heartbeats.
func (sp *space) List(ctx context.Context, keys string, each func(kv.Record) error) (kv.Mark, error) {
	return sp.Space.List(ctx, keys, hidden(each))
}

// Commit carries out a transaction. The first that writes under the lease that has heartbeats also
// writes how it is heard, so that this needs no commit of its own.
func (sp *space) Commit(ctx context.Context, tx kv.Tx) (kv.Result, error) {
	if tx.Each != nil {
		tx.Each = hidden(tx.Each)
	}
	sp.commits.RLock()
	defer sp.commits.RUnlock()
	first, err := sp.announce(&tx)
	if err != nil {
		return kv.Result{}, fmt.Errorf("committing: %w", err)
	}
	result, err := sp.Space.Commit(ctx, tx)
	if err == nil && result.Done && len(tx.Put)+len(tx.Delete) > 0 {
		sp.tell()
		if first {
			sp.settle(ctx)
		}
	}
	return result, err
}

// announce adds to a transaction how the lease is heard, if the store does not have that yet. While
// the lease is being begun nobody knows how it will be heard, and so there is no lease yet.
func (sp *space) announce(tx *kv.Tx) (first bool, err error) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	under := func(owner kv.Owner) bool {
		return owner != 0 && slices.ContainsFunc(tx.Put, func(r kv.Record) bool { return r.Owner == owner })
	}
	switch {
	case under(sp.begins):
		return false, fmt.Errorf("%w: it has not begun yet", kv.ErrEnded)
	case sp.voice == nil || sp.published || !under(sp.own):
		return false, nil
	}
	tx.Put = append(slices.Clone(tx.Put), sp.voice.says(sp.own, sp.voice.life))
	return true, nil
}

// settle notes that the store has how the lease is heard. So nobody need see that it waits.
func (sp *space) settle(ctx context.Context) {
	sp.mu.Lock()
	sp.published = true
	waited := sp.waited
	sp.waited = 0
	sp.mu.Unlock()
	if waited != 0 {
		_ = sp.Space.End(ctx, waited) // or it ends by itself
	}
}

func (sp *space) tell() {
	sp.mu.Lock()
	v := sp.voice
	sp.mu.Unlock()
	if v != nil {
		v.tell()
	}
}

// Watch opens a watch, which does not tell of the records of heartbeats.
func (sp *space) Watch(ctx context.Context, keys string, after int64) (kv.Watch, error) {
	w, err := sp.Space.Watch(ctx, keys, after)
	if err != nil {
		return nil, err
	}
	return watch{w}, nil
}

// Close closes the space.
func (sp *space) Close() error {
	err := sp.Space.Close()
	sp.mu.Lock()
	v := sp.voice
	sp.voice = nil
	if !sp.closed {
		sp.closed = true
		close(sp.closing)
	}
	sp.mu.Unlock()
	if v != nil {
		v.stop()
	}
	return err
}

type watch struct{ kv.Watch }

// Next returns the next changes. Commits that have changed nothing but heartbeats are no changes.
func (w watch) Next(ctx context.Context) (kv.Changes, error) {
	for {
		changes, err := w.Watch.Next(ctx)
		if err != nil {
			return kv.Changes{}, err
		}
		shown := slices.DeleteFunc(slices.Clone(changes.Records), func(c kv.Change) bool { return isOurs(c.Key) })
		if n := len(shown); n > 0 {
			changes.Records, changes.Mark.Revision = shown, shown[n-1].Version
			return changes, nil
		}
	}
}

// hidden returns each without the records of heartbeats.
func hidden(each func(kv.Record) error) func(kv.Record) error {
	return func(r kv.Record) error {
		if isOurs(r.Key) {
			return nil
		}
		return each(r)
	}
}

func isOurs(key string) bool { return strings.HasPrefix(key, prefix) }

// ownerOf returns whose record a key is of, or 0.
func ownerOf(key string) kv.Owner {
	owner, _ := strconv.ParseInt(strings.TrimPrefix(key, prefix), 16, 64) // 0 is nobody's
	return kv.Owner(owner)
}
