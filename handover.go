package libcluster

import "time"

// handOver is a change of the plan that a coordinator has under way, in a mode in which an
// instance waits until another one has stopped. The zero value: there is none.
type handOver struct {
	since   time.Time // when the coordinator learned of it
	crashed bool      // an instance was waited for that cannot say that it has stopped
}

// meets takes in what was decided. vanished says that the plan names an incarnation whose
// record has gone, and which has not said that it has stopped.
func (h *handOver) meets(d decision, vanished bool, at time.Time) {
	if d.next == nil && len(d.waiting) == 0 {
		*h = handOver{} // nothing has to change, or nothing any more
		return
	}
	if h.since.IsZero() {
		h.since = at
	}
	h.crashed = h.crashed || vanished
}

// isOver reports whether there is nothing left to wait for once the next plan is there. The
// old assignments, given anew while an instance may be dead, are not what the change is for.
func (d decision) isOver() bool { return d.next.committed && len(d.waiting) == 0 }
