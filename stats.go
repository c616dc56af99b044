package libcluster

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Stats is what has happened to an instance since [New], in all of its memberships, and what
// it knows without asking its registry. It is for monitoring: package metrics makes metrics for
// Prometheus of it. The value is made for the call of [Cluster.Stats] and belongs to the caller.
type Stats struct {
	// Rebalances is how many states the application was given, as [Config.OnRebalance] gets
	// them, whether or not that is set. The first state counts, and so does each index -1.
	Rebalances uint64

	// Fences is how often this instance was fenced, by the first reason that it learned of.
	// The map has all reasons. To leave is no fence, nor is a Join that fails.
	Fences map[FenceReason]uint64
	// Rejoins is how often the instance has joined again by itself after a fence. It counts
	// the record, not an assignment: in a mode with a plan that comes later.
	Rejoins uint64

	// Renewals are the heartbeats that have succeeded: how long each took, from its sending to
	// the answer. A heartbeat is one renewal of the record. There are none in a static cluster.
	Renewals Histogram
	// RegistryErrors is how often a call of the registry has failed, by what it was for. The
	// map has all of these. What a registry refuses for good counts too; but the answer that the
	// record is lost is a fence. A heartbeat that has no answer when the next one is due
	// counts, and again if it fails in the end.
	RegistryErrors map[RegistryOp]uint64

	// HandOvers are the changes of the plan that this instance has brought about as the
	// coordinator, in modes [ModeExclusive] and [ModeCooperative]: how long each took, from
	// when the coordinator learned that the plan had to change until it had committed the plan
	// by which all have what they should have. CrashHandOvers are those in which an instance
	// had to be waited out, since its record was gone and it had not said that it had stopped:
	// it had crashed, or was cut off, or its application did not stop. The time before the
	// registry let that record expire comes on top. HandOvers are all others.
	//
	// All instances together have counted each hand-over once. If the coordinator is lost
	// meanwhile the next one counts, from when it has taken over.
	HandOvers, CrashHandOvers Histogram

	// HasDeadline says that this instance has a record that it must renew, and UntilDeadline
	// how long it has for that: at the end of this time it is fenced. It is 0 once it is
	// fenced. There is no deadline in a static cluster, with [KeepOnOutage], before the first
	// Join has reached the registry, and after Leave.
	HasDeadline   bool
	UntilDeadline time.Duration

	// Coverage is what this instance has last seen of the cluster's coverage.
	Coverage LastLook
}

// LastLook is what an instance has found when it last looked at the cluster's coverage: in
// [Cluster.Coverage], or by itself, which costs the registry nothing. By itself in mode
// [ModeDirect] each instance looks at each heartbeat that has succeeded, and in a mode with a
// plan the coordinator at each change, and at least twice a TTL. So what is older than a TTL is
// out of date. In a static cluster nobody looks.
type LastLook struct {
	// At is when it was. Zero: never.
	At time.Time
	// Covered and Since are as in [Coverage].
	Covered bool
	Since   time.Time
}

// Histogram is how long things have taken.
type Histogram struct {
	// Bounds are upper bounds, which grow. They never change.
	Bounds []time.Duration
	// Counts has for each bound how many took no longer than it, and longer than the bound
	// before. One more at the end is how many took longer than all bounds.
	Counts []uint64
	// Count is how many there were, and Sum how long they took together.
	Count uint64
	Sum   time.Duration
}

func newHistogram(bounds []time.Duration) Histogram {
	return Histogram{Bounds: bounds, Counts: make([]uint64, len(bounds)+1)}
}

// observe counts one. It allocates nothing.
func (h *Histogram) observe(took time.Duration) {
	at, _ := slices.BinarySearch(h.Bounds, took)
	h.Counts[at]++
	h.Count++
	h.Sum += took
}

func (h Histogram) clone() Histogram {
	h.Bounds, h.Counts = slices.Clone(h.Bounds), slices.Clone(h.Counts)
	return h
}

var (
	// A renewal is one round trip, as a rule of milliseconds. What takes longer than the
	// window of the default TTL comes too late for it.
	renewalBounds = []time.Duration{
		time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
		50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
		time.Second, 2500 * time.Millisecond, 6 * time.Second,
	}
	// A hand-over takes some round trips, and as long as the slowest application takes to
	// stop; after a crash, with the default TTL, 7.75 s more.
	handOverBounds = []time.Duration{
		5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
		250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
		25 * time.Second, time.Minute, 5 * time.Minute,
	}
)

// FenceReason is why an instance was fenced.
type FenceReason string

// The reasons, with the error that [Cluster.Err] returns for each.
const (
	FencedDeadline FenceReason = "deadline"       // [ErrDeadlinePassed]
	FencedGone     FenceReason = "record_gone"    // [ErrRecordGone]
	FencedReset    FenceReason = "registry_reset" // [ErrRegistryReset]
	FencedTaken    FenceReason = "instance_taken" // [ErrInstanceTaken]
	FencedStuck    FenceReason = "stuck"          // [ErrStuck]
	FencedMode     FenceReason = "mode"           // [ModeError]: the cluster runs in another mode by now
	FencedDrained  FenceReason = "drained"        // [ErrDrained], in mode [ModeDirect]
)

// fenceReason returns that of the error that a fence was closed with.
func fenceReason(why error) FenceReason {
	switch {
	case errors.Is(why, ErrDeadlinePassed):
		return FencedDeadline
	case errors.Is(why, ErrRegistryReset):
		return FencedReset
	case errors.Is(why, ErrInstanceTaken):
		return FencedTaken
	case errors.Is(why, ErrStuck):
		return FencedStuck
	case errors.As(why, new(*ModeError)):
		return FencedMode
	case errors.Is(why, ErrDrained):
		return FencedDrained
	}
	return FencedGone
}

// RegistryOp is what a registry was called for.
type RegistryOp string

// What a registry is called for.
const (
	RegistryJoin        RegistryOp = "join"        // to join or rejoin: one attempt
	RegistryRenew       RegistryOp = "renew"       // a heartbeat
	RegistryWatch       RegistryOp = "watch"       // to learn of changes
	RegistryPublish     RegistryOp = "publish"     // another record: SetWorkers, SetMetadata, SetDraining
	RegistryAcknowledge RegistryOp = "acknowledge" // that the application has stopped for a plan
	RegistryCoordinate  RegistryOp = "coordinate"  // to survey the cluster and to make a plan
	RegistryLook        RegistryOp = "look"        // Coverage, or whether the own ID is free again
	RegistryLeave       RegistryOp = "leave"       // to remove the record, or to reserve it
)

// stats counts. What keeps time counts here too, so nothing may hold the mutex but for some
// instructions.
type stats struct {
	mu      sync.Mutex // guards what follows
	counted Stats      // without what others know: the deadline, the coverage
}

func newStats() *stats {
	s := &stats{counted: Stats{
		Fences: make(map[FenceReason]uint64), RegistryErrors: make(map[RegistryOp]uint64),
		Renewals: newHistogram(renewalBounds), HandOvers: newHistogram(handOverBounds), CrashHandOvers: newHistogram(handOverBounds),
	}}
	for _, reason := range []FenceReason{FencedDeadline, FencedGone, FencedReset, FencedTaken, FencedStuck, FencedMode, FencedDrained} {
		s.counted.Fences[reason] = 0
	}
	for _, op := range []RegistryOp{
		RegistryJoin, RegistryRenew, RegistryWatch, RegistryPublish,
		RegistryAcknowledge, RegistryCoordinate, RegistryLook, RegistryLeave,
	} {
		s.counted.RegistryErrors[op] = 0
	}
	return s
}

// count changes the counters.
func (s *stats) count(change func(all *Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.counted)
}

func (s *stats) rebalanced() { s.count(func(all *Stats) { all.Rebalances++ }) }
func (s *stats) rejoined()   { s.count(func(all *Stats) { all.Rejoins++ }) }

func (s *stats) fenced(why error) { s.count(func(all *Stats) { all.Fences[fenceReason(why)]++ }) }

func (s *stats) renewed(took time.Duration) { s.count(func(all *Stats) { all.Renewals.observe(took) }) }

// failed counts a call of the registry that has failed. What ends the incarnation is no
// failure: the registry has answered.
func (s *stats) failed(op RegistryOp, err error) {
	if !isFinal(err) {
		s.count(func(all *Stats) { all.RegistryErrors[op]++ })
	}
}

func (s *stats) handedOver(h handOver, at time.Time) {
	s.count(func(all *Stats) {
		if h.crashed {
			all.CrashHandOvers.observe(at.Sub(h.since))
		} else {
			all.HandOvers.observe(at.Sub(h.since))
		}
	})
}

func (s *stats) snapshot() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.counted
	now.Fences, now.RegistryErrors = maps.Clone(now.Fences), maps.Clone(now.RegistryErrors)
	now.Renewals, now.HandOvers, now.CrashHandOvers = now.Renewals.clone(), now.HandOvers.clone(), now.CrashHandOvers.clone()
	return now
}
