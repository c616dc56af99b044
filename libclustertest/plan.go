package libclustertest

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/libcluster/libcluster"
)

// planning is what a cluster has besides its records in a mode with a plan.
type planning struct {
	text        string // the plan
	revision    int64  // of its last Swap; 0: there is none
	coordinator string
	claimed     *lease          // of the coordinator; nil: there is none
	drained     map[string]note // by incarnation
	touched     []touch         // of the above, the latest last
}

// note is that an incarnation has stopped.
type note struct {
	generation int64
	lease      *lease // the note goes with it
}

// touch is a change of a cluster's planning.
type touch struct {
	revision int64
	by       *lease // nil: by nobody's own doing
	public   bool   // everybody's Next reports it
}

// maxTouches is how many changes of its planning a cluster remembers at least.
const maxTouches = 1000

func (s *store) touch(c *cluster, by *lease, public bool) {
	s.revision++
	if len(c.touched) >= 2*maxTouches {
		c.touched = slices.Clone(c.touched[maxTouches:])
	}
	c.touched = append(c.touched, touch{s.revision, by, public})
	c.wake()
}

// news counts the changes after a revision that a survey is to report, or all that
// Next is.
func (c *cluster) news(after int64, by *lease, public bool) (n int) {
	for i := len(c.touched) - 1; i >= 0 && c.touched[i].revision > after; i-- {
		if t := c.touched[i]; public && t.public || !public && (t.by == nil || t.by != by) {
			n++
		}
	}
	if !public {
		n += len(c.since(after + 1))
	}
	return n
}

// forsake takes back what a lease that is over has claimed and noted.
func (s *store) forsake(l *lease) {
	c := l.cluster
	if c == nil {
		return
	}
	if c.claimed == l {
		c.claimed, c.coordinator = nil, ""
		s.touch(c, nil, true)
	}
	for _, incarnation := range sortedKeys(c.drained) {
		if c.drained[incarnation].lease == l {
			delete(c.drained, incarnation)
		}
	}
}

func (s *store) noteDrained(c *cluster, incarnation string, generation int64, l *lease) {
	if c.drained == nil {
		c.drained = make(map[string]note)
	}
	c.drained[incarnation] = note{generation, l}
	s.touch(c, nil, false)
}

// present returns the plan as it is now. The caller holds the registry's mutex.
func (c *cluster) present() libcluster.Planning {
	var now libcluster.Planning
	if c.planning.revision > 0 {
		now.Plan, now.Revision = []byte(c.text), c.planning.revision
	}
	if c.claimed != nil {
		now.Coordinator = []byte(c.coordinator)
	}
	return now
}

// Plan returns the plan of a cluster as text, which is empty if there is none.
func (r *Registry) Plan(cluster string) string {
	r.lock()
	defer r.unlock()
	return r.store.cluster(cluster).text
}

// PutPlan writes the plan as a stranger would, or, if it is empty, deletes it.
func (r *Registry) PutPlan(cluster, text string) {
	r.lock()
	defer r.unlock()
	c := r.store.cluster(cluster)
	r.store.touch(c, nil, true)
	c.text, c.planning.revision = text, r.store.revision
	if text == "" {
		c.planning.revision = 0
	}
}

// Coordinator returns the ID of the instance that coordinates the cluster, which is
// empty if none does.
func (r *Registry) Coordinator(cluster string) string {
	r.lock()
	defer r.unlock()
	if l := r.store.cluster(cluster).claimed; l != nil {
		return l.record
	}
	return ""
}

// Depose takes the coordination from whoever has it, who does not learn of it
// otherwise than the others do.
func (r *Registry) Depose(cluster string) {
	r.lock()
	defer r.unlock()
	c := r.store.cluster(cluster)
	if c.claimed != nil {
		c.claimed, c.coordinator = nil, ""
		r.store.touch(c, nil, true)
	}
}

// Incarnation returns the number of the session's lease.
func (s *session) Incarnation() string { return s.lease.incarnation() }

func (l *lease) incarnation() string { return strconv.FormatInt(l.id, 10) }

// Survey returns the whole cluster.
func (s *session) Survey(ctx context.Context, after int64) (libcluster.Survey, error) {
	return exchange(ctx, s.registry, s.call(OpSurvey), func(ctx context.Context) (libcluster.Survey, error) {
		for {
			survey, changed, err := s.survey(after)
			if changed == nil {
				return survey, err
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return libcluster.Survey{}, context.Cause(ctx)
			}
		}
	})
}

func (s *session) survey(after int64) (survey libcluster.Survey, changed <-chan struct{}, err error) {
	r := s.registry
	r.lock()
	defer r.unlock()
	if err := s.over(); err != nil {
		return survey, nil, err
	}
	c := r.store.cluster(s.cluster)
	if after > 0 {
		news := c.news(after, s.lease, false)
		if news == 0 && after <= r.store.revision {
			return survey, c.change(), nil
		}
		r.counts.Deliveries += news
	}
	s.lease.seen = r.store.revision
	return s.everything(c), nil, nil
}

// Claim makes the session the coordinator if there is none.
func (s *session) Claim(ctx context.Context, says []byte) (bool, error) {
	text := string(says)
	return plans(ctx, s, OpClaim, func(st *store, c *cluster) (bool, error) {
		if c.claimed != nil && c.claimed != s.lease {
			return false, nil
		}
		c.claimed, c.coordinator = s.lease, text
		st.touch(c, s.lease, true)
		return true, nil
	})
}

// Swap replaces the plan, if the session coordinates.
func (s *session) Swap(ctx context.Context, revision int64, plan []byte) error {
	text := string(plan)
	_, err := plans(ctx, s, OpSwap, func(st *store, c *cluster) (none, error) {
		if c.claimed != s.lease {
			return none{}, libcluster.ErrNotCoordinator
		}
		if c.planning.revision != revision {
			return none{}, libcluster.ErrPlanChanged
		}
		st.touch(c, s.lease, true)
		c.text, c.planning.revision = text, st.revision
		return none{}, nil
	})
	return err
}

// Drained notes that the session has stopped.
func (s *session) Drained(ctx context.Context, revision, generation int64) error {
	_, err := plans(ctx, s, OpDrained, func(st *store, c *cluster) (none, error) {
		if c.planning.revision != revision {
			return none{}, libcluster.ErrPlanChanged
		}
		st.noteDrained(c, s.Incarnation(), generation, s.lease)
		return none{}, nil
	})
	return err
}

// plans is the way of every call that changes a cluster's planning.
func plans[T any](ctx context.Context, s *session, op Op, effect func(*store, *cluster) (T, error)) (T, error) {
	var zero T
	if err := s.usable(); err != nil {
		return zero, err
	}
	if s.passive {
		return zero, errPassive
	}
	return exchange(ctx, s.registry, s.call(op), func(context.Context) (T, error) {
		r := s.registry
		r.lock()
		defer r.unlock()
		if err := s.lost(); err != nil {
			return zero, err
		}
		before := r.store.revision
		got, err := effect(&r.store, r.store.cluster(s.cluster))
		r.counts.Writes += int(r.store.revision - before)
		return got, err
	})
}

// LeaveDrained deletes the record, or parks it, and notes that the session has
// stopped for good.
func (s *session) LeaveDrained(ctx context.Context, d time.Duration, kept libcluster.Member) error {
	return s.leave(ctx, func(st *store) error {
		if s.lease.lost != nil {
			if errors.Is(s.lease.lost, libcluster.ErrInstanceTaken) {
				return nil
			}
			return s.lease.lost
		}
		c, l := st.cluster(s.cluster), s.lease
		if d > 0 {
			st.noteDrained(c, s.Incarnation(), libcluster.DrainedForGood, s.park(st, d, kept))
			return nil
		}
		// The lease goes on without a record, for the note. What it claimed ends.
		rest := st.grant(l.ttl)
		rest.cluster, rest.left = c, true
		st.noteDrained(c, s.Incarnation(), libcluster.DrainedForGood, rest)
		st.remove(c, s.id, "it has left")
		return nil
	})
}

// park puts the record under a lease of d that nobody renews. With a plan that is an
// incarnation of its own, which never acts.
func (s *session) park(st *store, d time.Duration, kept libcluster.Member) *lease {
	c, parked := st.cluster(s.cluster), st.grant(d)
	st.put(c, s.id, string(kept.Record()), parked)
	if s.mode == libcluster.ModeExclusive {
		st.noteDrained(c, parked.incarnation(), libcluster.DrainedForGood, parked)
	}
	return parked
}
