package libcluster

import "time"

// State is one consistent snapshot of this instance's assignment in the cluster.
// It is a value: it does not change after it was handed out.
type State struct {
	// Index is the first worker index that this instance holds; it holds
	// [Index, Index+Workers). It is -1 when this instance is not an active
	// member: passive, not joined, leaving, or fenced.
	//
	// In mode [ModeCooperative] an index is the number of a partition: this instance holds
	// those of [State.Held], of which Index is the lowest, or -1 if there are none.
	Index int
	// Workers is the number of this instance's workers, as far as the cluster knows. It
	// follows [Cluster.SetWorkers] with a short delay.
	Workers int
	// Total is the number of workers in the whole cluster. While Index is -1 it is the
	// number of the others' workers, as far as known; an earlier incarnation of this instance
	// that a plan still names is another one. In mode [ModeCooperative] it is
	// [Config.Partitions], or 0 while no plan is known.
	Total int
	// Generation numbers the set of members that the state was computed from.
	// Instances that report the same generation computed their assignments from
	// the same members, so their ranges tile [0, Total). (In mode [ModeCooperative] they do
	// not overlap, and a partition that moves is nobody's between two plans.) It only grows. In
	// mode [ModeExclusive] it is a fencing token; in mode [ModeCooperative] [Partition.Token] is.
	Generation int64
	// Deadline is the moment up to which this instance may act. As a rule the record is
	// renewed before that, which moves the deadline: read the state again to see it.
	// Zero: there is no deadline. In modes [ModeExclusive] and [ModeCooperative] the deadline
	// is no promise to be alone until then. A callback for index -1, or the end of the context of a
	// function given to [Cluster.Run], may come before, and the others go on when the
	// callback or the function has returned.
	Deadline time.Time

	held *holding // in mode cooperative; nil: nothing
}

// Active reports whether this instance holds a range, or a partition.
func (s State) Active() bool { return s.Index >= 0 }

// Primary reports whether this instance holds index 0.
func (s State) Primary() bool { return s.Index == 0 }

// inactive is the state of the same cluster without this instance.
func (s State) inactive() State {
	switch {
	case !s.Active():
	case s.held != nil:
		s.Index, s.held = -1, nil
	default:
		s.Index, s.Total = -1, s.Total-s.Workers
	}
	return s
}

// holding is the same state if these partitions are held.
func (s State) holding(h *holding) State {
	s.Index, s.held = h.partitions().first(), h
	return s
}

// sameTo reports whether a callback that got s has nothing to learn from t.
// A generation by itself is no news: it also counts changes that leave this
// instance's assignment as it was. Nor is a deadline, which moves with every
// heartbeat.
func (s State) sameTo(t State) bool {
	t.Generation, t.Deadline = s.Generation, s.Deadline
	return s == t
}

// Phase is where an instance stands with its cluster.
type Phase string

// The phases. The package documentation has a diagram of what moves an instance from one
// to another.
const (
	PhaseJoining Phase = "joining" // trying to reach the registry for the first time
	PhaseActive  Phase = "active"  // joined; a passive instance too
	PhaseWaiting Phase = "waiting" // without an assignment until a plan is committed, see [ErrWaiting], or until it is undrained, see [ErrDrained]
	PhaseFenced  Phase = "fenced"  // has lost its assignment, and rejoins; if [Cluster.Err] is [ErrInstanceTaken], only with [Config.ReclaimAfter]
	PhaseLeaving Phase = "leaving" // the last callback has not returned yet, or the record is being removed
	PhaseLeft    Phase = "left"    // left, or never joined
)
