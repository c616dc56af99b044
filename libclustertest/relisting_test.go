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

func (r relisting) Join(ctx context.Context, reg libcluster.Registration) (libcluster.Session, time.Duration, error) {
	if previous, ok := reg.Previous.(*relistingSession); ok {
		reg.Previous = previous.everything
	}
	s, ttl, err := r.Registry.Join(ctx, reg)
	if err != nil {
		return nil, 0, err
	}
	return &relistingSession{everything: s.(everything), members: map[string]libcluster.Event{}}, ttl, nil
}

// everything is what a session can do.
type everything interface {
	libcluster.Session
	libcluster.Returner
	libcluster.Looker
	libcluster.Planner
}

type relistingSession struct {
	everything
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
	change, err := s.everything.Next(wait)
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
