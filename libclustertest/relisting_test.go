package libclustertest_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
	"github.com/libcluster/libcluster/libclustertest"
	"github.com/libcluster/libcluster/registrytest"
)

// A registry may send everything anew whenever it likes, and say before that it does
// not know: etcd does when somebody compacts the store between two watches, or when a
// watch is not open in time. The suite must not take that for a change, nor for an end.
func TestRegistryThatListsAnewKeepsThePromises(t *testing.T) {
	h := harness()
	h.TTL = time.Hour
	h.Around = synctest.Test
	h.Open = func(*testing.T) libcluster.Registry { return relisting{libclustertest.New()} }
	put, del := h.Put, h.Delete
	h.Put = func(ctx context.Context, r libcluster.Registry, cluster, id string, record []byte) error {
		return put(ctx, r.(relisting).Registry, cluster, id, record)
	}
	h.Delete = func(ctx context.Context, r libcluster.Registry, cluster, id string) error {
		return del(ctx, r.(relisting).Registry, cluster, id)
	}
	registrytest.Run(t, h)
}

// relisting is a registry whose sessions do not know, and then send everything anew,
// after each change that no other follows within a millisecond.
type relisting struct{ *libclustertest.Registry }

func (r relisting) Enter(reg libcluster.Registration) (libcluster.Membership, error) {
	return between.Registry{Registry: r.Registry, Joining: func(ctx context.Context, m libcluster.Member, below libcluster.Membership,
	) (libcluster.Session, time.Duration, error) {
		s, ttl, err := below.Join(ctx, m)
		if err != nil {
			return nil, 0, err
		}
		return &relistingSession{Planner: s.(libcluster.Planner), members: map[string]libcluster.Event{}}, ttl, nil
	}}.Enter(reg)
}

type relistingSession struct {
	libcluster.Planner
	members map[string]libcluster.Event
	pending []answer // what Next returns if nothing has happened
}

// answer is one of Next's.
type answer struct {
	change libcluster.Change
	err    error
}

func (s *relistingSession) Next(ctx context.Context) (libcluster.Change, error) {
	wait := ctx
	if len(s.pending) > 0 {
		brief, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		wait = brief
	}
	change, err := s.Planner.Next(wait)
	switch {
	case err == nil:
		s.pending = []answer{{err: errors.New("the watch was closed")}}
		if change.Planned == nil {
			s.pending = append(s.pending, answer{change: s.list(change)})
		}
	case errors.Is(err, context.DeadlineExceeded) && len(s.pending) > 0 && ctx.Err() == nil:
		first := s.pending[0]
		s.pending = s.pending[1:]
		return first.change, first.err
	}
	return change, err
}

// list returns what change results in.
func (s *relistingSession) list(change libcluster.Change) libcluster.Change {
	if change.Reset {
		clear(s.members)
	}
	for _, e := range change.Events {
		if s.members[e.Member.ID] = e; e.Gone {
			delete(s.members, e.Member.ID)
		}
	}
	return libcluster.Change{
		Generation: change.Generation, Reset: true,
		Events: slices.Collect(maps.Values(s.members)),
	}
}
