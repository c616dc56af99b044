package libcluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/kv"
)

// attempts is what all attempts of one stay to join a store have in common.
type attempts struct {
	mu    sync.Mutex // guards what follows
	drawn []kv.Owner // all of them
	begun []kv.Owner // whose leases have surely begun, the latest last
	wrote int64      // the revision of the latest write that succeeded
	// connections is what the connections to the store have in common, if anything.
	connections any

	recordsLimit
}

// attemptsOf returns those of a registration's stay.
func attemptsOf(r *Registration) *attempts {
	if r.Stay == nil {
		r.Stay = &Stay{}
	}
	if previous, ok := r.Previous.(*storeSession); ok && r.Stay.Notes == nil {
		r.Stay.Notes = previous.attempts
	}
	if r.Stay.Notes == nil {
		r.Stay.Notes = &attempts{}
	}
	return r.Stay.Notes.(*attempts)
}

// draw draws another owner.
func (a *attempts) draw(from func() kv.Owner) kv.Owner {
	owner := from()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drawn = append(a.drawn, owner)
	return owner
}

func (a *attempts) hasBegun(owner kv.Owner) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begun = append(a.begun, owner)
}

// others returns the latest of those whose leases have begun, but one.
func (a *attempts) others(but kv.Owner) []kv.Owner {
	const enough = 16 // a transaction has no more room in every store
	a.mu.Lock()
	defer a.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(a.begun), func(o kv.Owner) bool { return o == but })
	return others[max(0, len(others)-enough):]
}

func (a *attempts) written(revision int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wrote = max(a.wrote, revision)
}

// listed notes a write from which on the session goes by what it was told with it. In a store
// that was restored its revision is smaller than that of writes before.
func (a *attempts) listed(revision int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wrote = revision
}

func (a *attempts) isOurs(owner kv.Owner) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.drawn, owner)
}

// isOlder reports whether a record was last written before this instance wrote it, which
// is so only in a store that was restored. An instance that takes it over writes it later.
func (a *attempts) isOlder(r kv.Record) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return r.Version < a.wrote
}

// joinStore opens a session in a space, which it does not close if it fails.
func joinStore(ctx context.Context, space kv.Space, r Registration) (*storeSession, time.Duration, error) {
	s := newStoreSession(space, r)
	ttl, err := s.open(ctx, r)
	return s, ttl, err
}

// open begins the lease, opens the watch, and then writes the record and lists the
// members in one transaction: the list is that of the revision that the write made,
// neither older nor newer, and the watch goes on with the one after it.
//
// The watch is opened before: opened later, from a revision that by then is past, it would
// have to catch up, which on some stores costs a while.
func (s *storeSession) open(ctx context.Context, r Registration) (time.Duration, error) {
	if err := s.mayList(); err != nil {
		return 0, err
	}
	var (
		opening sync.WaitGroup
		before  kv.Record
		trouble error
	)
	beside, cancel := context.WithCancel(ctx)
	defer cancel()
	if !s.passive {
		s.owner = s.attempts.draw(s.draw)
	}
	opening.Go(func() { _ = s.storeNews.feed.open(ctx) }) // if it fails Next opens another
	if !s.passive {
		opening.Go(func() { before, trouble = s.lookBefore(beside, r) })
	}
	ttl, err := s.begin(ctx)
	if err != nil {
		cancel()
		opening.Wait()
		return 0, err
	}
	release := s.hold(ctx, ttl)
	opening.Wait()
	if err = trouble; err == nil {
		err = s.enter(ctx, r.Member, before)
	}
	release()
	if err != nil {
		// Whether the record was written is unknown. Without the lease it goes.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		defer context.AfterFunc(ctx, func() {
			if errors.Is(ctx.Err(), context.Canceled) {
				time.AfterFunc(releaseGrace/2, cancel) // Leave waits for no longer
			}
		})()
		if !s.passive {
			_ = s.space.End(cleanup, s.owner)
		}
		return 0, err
	}
	s.endPrevious(ctx)
	return ttl, nil
}

// begin begins the lease. A passive session needs none; what it knows is trusted for as
// long as it asked for.
func (s *storeSession) begin(ctx context.Context) (time.Duration, error) {
	if s.passive {
		return s.ttl, nil
	}
	ttl, err := s.space.Begin(ctx, s.owner, s.ttl)
	if err == nil {
		s.attempts.hasBegun(s.owner)
	}
	return ttl, err
}

// get reads a record in two fifths of the time that there is: an answer that does not come is
// asked for again.
func (s *storeSession) get(ctx context.Context, key string) (kv.Record, kv.Mark, error) {
	limit := errandTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline) * 2 / 5
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.space.Get(ctx, key)
}

// hold keeps the lease, so that a store that is slow because many join at once need not
// begin another one. It returns what ends that.
func (s *storeSession) hold(ctx context.Context, ttl time.Duration) (release func()) {
	if s.passive {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var holding sync.WaitGroup
	holding.Go(func() {
		for sleep(ctx, ttl/3) {
			_, _ = s.space.Renew(ctx, s.owner) // an error shows when the record is written
		}
	})
	return func() { cancel(); holding.Wait() }
}

// lookBefore returns the record that is there, and an error if it must not be taken over.
func (s *storeSession) lookBefore(ctx context.Context, r Registration) (kv.Record, error) {
	found, now, err := s.get(ctx, s.id)
	if err != nil || found.Owner == 0 || s.attempts.isOurs(found.Owner) {
		return found, err // nobody's, or that of an incarnation or an attempt of this stay
	}
	if s.previous != nil {
		if s.previous.sameStore(s.previous.latest(), now) != nil || s.attempts.isOlder(found) {
			return found, nil // from a backup: its instance may long be over
		}
		return found, s.holder(found)
	}
	survey, err := s.Look(ctx)
	if err != nil {
		return found, err
	}
	return found, r.MayTakeOver(survey)
}

// enter writes the record, if it is still what was found before, and lists.
func (s *storeSession) enter(ctx context.Context, m Member, found kv.Record) error {
	if s.passive {
		return s.relist(ctx)
	}
	tx := kv.Tx{
		If:  []kv.Cond{kv.AtVersion(s.id, found.Version)},
		Put: []kv.Record{{Key: s.id, Value: m.Record(), Owner: s.owner}},
	}
	if s.mode == ModeExclusive {
		// What this stay has begun before never acts again, or never has.
		before := s.attempts.others(s.owner)
		if s.previous != nil && !slices.Contains(before, s.previous.owner) {
			before = append(before, s.previous.owner)
		}
		for _, owner := range before {
			tx.Put = append(tx.Put, drainedNote(owner, DrainedForGood, s.owner))
		}
	}
	err := s.list(ctx, tx, func([]kv.Record) error {
		return errors.New("the record has changed while joining") // to be looked at again
	})
	if err != nil {
		return err
	}
	return s.unseat(ctx, found.Owner)
}

// unseat removes the claim of the incarnation that had the record before us, under a lease that
// may live on for long. It is over, and meanwhile nobody would coordinate.
func (s *storeSession) unseat(ctx context.Context, before kv.Owner) error {
	if s.mode == ModeDirect || before == 0 || before == s.owner {
		return nil
	}
	return s.vacate(ctx, before)
}

// endPrevious ends what is left of the previous incarnation, once this one has its record.
func (s *storeSession) endPrevious(ctx context.Context) {
	if s.mode == ModeDirect || s.passive || s.previous == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout) // this one has its record already
	defer cancel()
	if err := s.space.End(ctx, s.previous.owner); err != nil {
		s.log.Debug("could not end the previous lease", zap.Error(err))
	}
}
