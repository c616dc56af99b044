package libcluster

import "time"

// State is one consistent snapshot of this instance's place in the cluster.
// It is a value: it does not change after it was handed out.
type State struct {
	// Index is the first worker index that this instance holds; it holds
	// [Index, Index+Workers). It is -1 when this instance is not an active
	// member: passive, not joined, leaving, or fenced.
	Index int
	// Workers is the number of this instance's workers as the cluster knows
	// it, which follows [Cluster.SetWorkers] with a short delay.
	Workers int
	// Total is the number of workers in the whole cluster, and while Index
	// is -1 that of the others, as far as known.
	Total int
	// Generation numbers the set of members that the state was computed from.
	// Instances that report the same generation computed their places from
	// the same members, so their ranges tile [0, Total). It only grows. In mode
	// [ModeExclusive] it is a fencing token.
	Generation int64
	// Deadline is the moment up to which this instance may act, unless its
	// record is renewed before, which is what happens as a rule. Zero: there is
	// no such moment. To have it renewed, read the state again. In mode
	// [ModeExclusive] it is no promise to be alone until then: a callback for index
	// -1, or the end of the context of a function given to [Cluster.Run], may
	// come before, and the others go on when that has returned.
	Deadline time.Time
}

// Active reports whether this instance holds a range.
func (s State) Active() bool { return s.Index >= 0 }

// Primary reports whether this instance holds index 0.
func (s State) Primary() bool { return s.Index == 0 }

// inactive is the state of the same cluster without this instance.
func (s State) inactive() State {
	if s.Active() {
		s.Index, s.Total = -1, s.Total-s.Workers
	}
	return s
}

// sameTo reports whether a callback that was told s has nothing to learn
// from t. A generation by itself is no news: it also counts changes that
// leave this instance's place as it was. Nor is a deadline, which moves with
// every heartbeat.
func (s State) sameTo(t State) bool {
	t.Generation, t.Deadline = s.Generation, s.Deadline
	return s == t
}

// Phase is where an instance stands with its cluster.
type Phase string

// The phases. An instance goes from joining to active, in a mode with a plan by way
// of waiting, from there to fenced and back as often as it takes, and by way of
// leaving to left.
const (
	PhaseJoining Phase = "joining" // trying to reach the registry for the first time
	PhaseActive  Phase = "active"  // joined; a passive instance too
	PhaseWaiting Phase = "waiting" // joined, and without a place until a plan is committed: see [ErrWaiting]
	PhaseFenced  Phase = "fenced"  // has lost its place; rejoining; if [Cluster.Err] is [ErrInstanceTaken], only with [Config.ReclaimAfter]
	PhaseLeaving Phase = "leaving" // the last callback has not returned, or the record is being removed
	PhaseLeft    Phase = "left"    // left, or never joined
)
