package libclustertest

import (
	"context"

	"github.com/libcluster/libcluster"
)

// Look returns the whole cluster. The session may have lost its record.
func (s *session) Look(ctx context.Context) (libcluster.Survey, error) {
	if err := s.usable(); err != nil {
		return libcluster.Survey{}, err
	}
	return exchange(ctx, s.registry, s.call(OpLook), func(context.Context) (libcluster.Survey, error) {
		r := s.registry
		r.lock()
		defer r.unlock()
		return s.everything(r.store.cluster(s.cluster)), nil
	})
}

// everything is all that there is of a cluster. The caller holds the registry's mutex.
func (s *session) everything(c *cluster) libcluster.Survey {
	s.registry.counts.Reads++
	all := libcluster.Survey{
		Revision: max(1, s.registry.store.revision),
		Planning: c.present(),
		Drained:  make(map[string]int64),
	}
	for _, id := range sortedKeys(c.records) {
		held := c.records[id]
		if e := s.event(c.record(id)); !e.Gone {
			m := libcluster.Recorded{Member: e.Member, Since: held.since}
			if held.lease != nil {
				m.Incarnation = held.lease.incarnation()
			}
			all.Members = append(all.Members, m)
		}
	}
	for incarnation, n := range c.drained {
		all.Drained[incarnation] = n.generation
	}
	return all
}

// record returns what there is of an instance, as if it had just been put.
func (c *cluster) record(id string) event {
	held := c.records[id]
	return event{id: id, value: held.value, orphan: held.lease == nil}
}
