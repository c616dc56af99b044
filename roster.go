package libcluster

import (
	"maps"
	"sync"
)

// roster is the members as an incarnation has been told of them. The balancer changes it, and
// what publishes the record may forget the own line (agree). Readers look at it.
type roster struct {
	mu       sync.Mutex // guards what follows
	index    *index     // the members of the last state
	latest   *index     // all members; another one while their total is too large
	assigned *Range     // without members
	own      *planned   // with a plan: this incarnation's line in it; nil while all stop for the next one
	planned  bool       // the mode has plans
}

func newRoster(cfg Config) *roster {
	x := newIndex(cfg.ID)
	return &roster{index: x, latest: x, planned: cfg.Mode != ModeDirect}
}

// apply takes in a change, and returns the scheme of the members that are of another mode. If
// the total is too large then, readers keep the index of the last state. The caller holds mu.
func (r *roster) apply(change Change) (foreign scheme) {
	if r.latest == r.index && r.index.exceeds(change) {
		r.latest = r.index.clone()
	}
	foreign = r.latest.apply(change)
	if !r.tooMany() {
		r.index = r.latest
	}
	if change.Assigned != nil {
		r.assigned = change.Assigned
	}
	return foreign
}

func (r *roster) tooMany() bool { return r.latest.total > MaxWorkers }

// keep notes the line of a committed plan, or that there is none.
func (r *roster) keep(own *planned) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own = own
}

// agree reports whether the registry knows the same of this instance, as far as it
// has told anything. What was published can be undone: by a store that is
// restored, or by an older update that is carried out late. It disagrees once for each line of a
// plan: the caller publishes then, and the next plan may be long in coming.
func (r *roster) agree(own Member) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.assigned != nil:
		return r.assigned.Workers == own.Workers
	case r.planned:
		agrees := r.own == nil || r.own.Workers == own.Workers
		if !agrees {
			r.own = nil
		}
		return agrees
	}
	known, there := r.latest.members[own.ID]
	return !there || known.Workers == own.Workers && maps.Equal(known.Metadata, own.Metadata)
}
