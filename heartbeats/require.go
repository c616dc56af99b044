package heartbeats

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// # How all step down, where Require is set, and come back
//
// An instance that hears no majority ends its lease, and joins anew when it hears one. How many there are to be
// heard must be known meanwhile, or the first to have no lease left would find nobody there and
// act alone. So an instance that has stepped down, or waits to be let in, has another lease in
// the space, without a member, which says where it listens as others do, and counts as they do. It is
// left to pass if nobody tries to join any more.

// wait waits until this process hears a majority, and is seen meanwhile.
func (sp *space) wait(ctx context.Context, ttl time.Duration) error {
	v, err := sp.store.newVoice(ctx, sp.Space, sp.name)
	if err != nil {
		return err // never: the port is open
	}
	defer v.stop()
	owner, life, err := sp.present(ctx, v, ttl)
	if err != nil {
		return err
	}
	v.start(owner, life)
	sp.tell()
	renew := time.NewTicker(life / 3)
	defer renew.Stop()
	for {
		hears, moved := v.majority()
		if hears {
			sp.mu.Lock()
			defer sp.mu.Unlock()
			sp.waited = owner
			return nil
		}
		select {
		case <-moved:
			continue
		case <-renew.C:
			if _, err = sp.Space.Renew(ctx, owner); !errors.Is(err, kv.ErrEnded) {
				continue
			}
		case <-sp.closing:
			err = kv.ErrClosed
		case <-ctx.Done():
			err = ctx.Err()
		}
		sp.store.keepWaiting(sp.name, owner)
		return fmt.Errorf("beginning a lease: %w: %w", ErrIsolated, err)
	}
}

// present has this process seen in the space, by a lease without a member.
func (sp *space) present(ctx context.Context, v *voice, ttl time.Duration) (owner kv.Owner, life time.Duration, err error) {
	err = kv.ErrEnded
	if owner = sp.store.takeWaiting(sp.name); owner != 0 {
		life, err = sp.Space.Renew(ctx, owner)
	}
	if errors.Is(err, kv.ErrEnded) {
		owner = kv.Owner(1 + rand.Int64N(math.MaxInt64))
		life, err = sp.Space.Begin(ctx, owner, ttl)
	}
	if err == nil {
		_, err = sp.Space.Commit(ctx, kv.Tx{Put: []kv.Record{v.says(owner, life)}})
	}
	return owner, life, err
}

// stepDown has the lease end, and with it the instance's record.
func (sp *space) stepDown(ctx context.Context, v *voice, owner kv.Owner, ttl time.Duration) {
	sp.mu.Lock()
	sp.isolated = true
	sp.mu.Unlock()
	for ctx.Err() == nil {
		waiting, _, err := sp.present(ctx, v, ttl)
		if err == nil {
			sp.store.keepWaiting(sp.name, waiting)
			err = sp.Space.End(ctx, owner)
		}
		if err == nil {
			v.cancel()
			return
		}
		sleep(ctx, readAgain)
	}
}

func (s *Store) takeWaiting(space string) kv.Owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := s.waiting[space]
	delete(s.waiting, space)
	return owner
}

// keepWaiting keeps a lease for the next attempt to join.
func (s *Store) keepWaiting(space string, owner kv.Owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[space] = owner
}
