package libcluster

import (
	"context"
	"errors"
	"math"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/chance"
	"github.com/libcluster/libcluster/kv"
)

// Registry is where members record themselves and learn of one another.
//
// A registry does I/O: libcluster decides, and has the timers, retries, deadlines and
// goroutines of a cluster. A registry has only those that its I/O needs. A call that
// takes a context may block, and returns soon after that context ends; an attempt to join
// that has failed may take 3 s more to end what it has begun.
//
// One value may serve any number of clusters at once. To keep clusters in a store of your
// own, in every mode, write a store and use [OnStore]: a registry by itself can serve mode
// [ModeDirect] only.
type Registry interface {
	// Capabilities says what the registry can do. [New] refuses a [Config] that needs more.
	Capabilities() Capabilities
	// Enter begins a membership, the time from one [Cluster.Join] to the [Cluster.Leave]
	// that ends it. It does no I/O beyond reading files that the registry's configuration
	// names, and starts nothing, so that nothing need be ended. An error means that no retry
	// helps. [New] calls Enter too, to find that out before anything is joined.
	Enter(r Registration) (Membership, error)
}

// Capabilities are what a registry can do. The zero value is that of a registry that can
// serve mode [ModeDirect] in the simplest way.
type Capabilities struct {
	// Members: sessions learn of one another. Without it the registry assigns each instance
	// its range ([Change.Assigned]), as static configuration does.
	Members bool
	// Agreed: two sessions that report the same generation have reported the same members,
	// and the generation of a session only grows. Without it [State.Generation] is 0.
	Agreed bool
	// Expires: a record that is not renewed goes by itself. Modes [ModeExclusive]
	// and [ModeCooperative] need it.
	Expires bool
	// Reserves: a record can stay for a restart; see [Departure.Reserve].
	Reserves bool
	// Plans: sessions are Planners. The modes with a plan, [Cluster.Coverage] and the look of
	// [Config.ReclaimAfter] need it.
	Plans bool
	// TTL is the default of [Config.TTL]; 0: [DefaultTTL].
	TTL time.Duration
}

// Registration is what an instance tells a registry of itself when a membership begins.
type Registration struct {
	// Key, Partition and Env name the cluster. Partition may be empty.
	Key, Partition, Env string
	// Member is the instance's record, as far as it is known yet.
	Member Member
	// Passive asks to watch the cluster without being a member of it.
	Passive bool
	// Mode is the cluster's.
	Mode Mode
	// Members asks for the members in a mode with a plan too: see [Change.Planned].
	Members bool
	// TTL is how long the record should outlive its last renewal. The
	// registry may grant another one.
	TTL time.Duration
	// Logger never blocks; nil: nothing is logged. Lines are written later, so what their
	// fields refer to must not change.
	Logger *zap.Logger

	chance *chance.Source // what is left to chance is drawn from here
	note   func(error)    // nil: nobody wants to know
}

// noteTrouble tells why a Join that still goes on has not succeeded yet.
func (r Registration) noteTrouble(err error) {
	if r.note != nil {
		r.note(err)
	}
}

// Cluster returns KEY/ENV or KEY/PARTITION/ENV, the cluster's name for people.
func (r Registration) Cluster() string {
	if r.Partition == "" {
		return r.Key + "/" + r.Env
	}
	return r.Key + "/" + r.Partition + "/" + r.Env
}

// Membership is one instance's way into its cluster. Its calls come one after another.
type Membership interface {
	// Join records the member and opens a session for it; for a passive instance it only
	// opens a session. It returns how long the record lives, from the moment of *calling*
	// Join, unless it is renewed; 0 means for ever. An error that no retry can mend is
	// wrapped with [Permanent]. After an error nothing is left open.
	//
	// A record that is already there under the same ID is taken over by the first Join. As
	// soon as one Join has returned a session, another instance's record means
	// [ErrInstanceTaken]: an instance that was cut off for a while must not take its ID back
	// from the instance that was started in its place. A record that an earlier Join has
	// made is this instance's own, also if that Join failed or its answer was lost. The
	// earlier session is closed once the new one has joined.
	//
	// An instance that will be refused must not have taken anything from another instance.
	Join(ctx context.Context, m Member) (Session, time.Duration, error)
	// Assigned tells of each new state of the instance, in their order, and with index -1 that
	// it has left. Of a fence it does not tell. It must not block. Most registries need not
	// know.
	Assigned(s State)
}

// Session is one incarnation of one instance in a registry. Next is called by one goroutine,
// and the other methods by any. Renew is called again while an earlier call still waits
// for its answer, which counts whenever it comes.
//
// Next, Renew and Update return [ErrRecordGone] if the record is known to have gone,
// [ErrInstanceTaken] if another instance has it, and [ErrRegistryReset] if the registry was
// restored or replaced. In mode [ModeDirect] Next returns [ErrDrained] if the instance is
// to leave, and so does [Membership.Join] until it may join again. Any other error means
// that the session does not know, and libcluster calls it again.
type Session interface {
	// Next blocks until something has changed. The first call returns the
	// members as they were at the instant of joining. No change is missed:
	// where one could have been, the session returns everything anew.
	Next(ctx context.Context) (Change, error)
	// Renew keeps the record alive and confirms that it is still there. As Join does, it
	// returns how long the record lives, from the moment of *calling* Renew.
	Renew(ctx context.Context) (time.Duration, error)
	// Update publishes another worker count or other metadata at once.
	Update(ctx context.Context, m Member) error
	// Leave removes the record, or has it stay for a restart, so that the others notice at
	// once, and closes the session. Whatever it returns, nothing of the session is left in
	// this process.
	Leave(ctx context.Context, d Departure) error
	// Close closes the session and lets its record expire.
	Close() error
}

// Departure is how an instance leaves. The zero Departure removes the record.
type Departure struct {
	// Reserve is for how long the record stays, unless the same ID joins first; see
	// [Returning]. It is 0 if the registry cannot do that.
	Reserve time.Duration
	// Last is the record that stays.
	Last Member
	// Stopped says that the application has stopped for good, which a [Planner] notes in the
	// same step as it removes or replaces the record.
	Stopped bool
}

// Change is what [Session.Next] reports.
type Change struct {
	// Generation is the number of the set of members that results. It identifies the set:
	// two sessions that report the same generation have reported the same members.
	Generation int64
	// Reset says that Events hold every member there is; all others are forgotten.
	Reset bool
	// Events are in the order in which they happened.
	Events []Event
	// Assigned is set by a registry that knows this instance's assignment without
	// knowing the members, as static configuration does.
	Assigned *Range
	// Planned is set in a mode with a plan, if that has changed. There Generation is 0, and
	// Reset and Events are set only if [Registration.Members] asks for the members.
	Planned *Planning

	foreign []foreign // what the registry has found besides members
}

// Event is a member that appeared, changed or went.
type Event struct {
	// Member is the new record. If the member is gone, only its ID counts.
	Member Member
	Gone   bool
	// Orphan says that no session holds the record, and that it never expires: no
	// instance has written it. A registry that cannot know this leaves it false.
	Orphan bool
}

// Range is the range [Index, Index+Workers) of Total that a registry without members assigns.
type Range struct {
	// Index is this instance's base index, or -1 for a passive one.
	Index int
	// Workers is the number of its workers.
	Workers int
	// Total is the number of workers in the cluster.
	Total int
}

// Planner is a session of a registry that can keep a plan, which all modes but
// [ModeDirect] need. In these modes Next reports the plan instead of the members.
// Several goroutines may use a Planner.
//
// Only the sessions of [OnStore], which those of [EtcdConfig] are too, are Planners: the
// safety of [ModeExclusive] and [ModeCooperative] rests on them, and on what package kv asks of a store. A type
// that wraps such a session has to embed it.
//
// The plan is one record without a lease, which only Swap writes. It is so that:
//
//   - Swap is a compare-and-swap, and has no effect if the session does not coordinate.
//   - A Survey is of one instant and no mixture, and never of an earlier instant than the
//     Survey before.
//   - A Renew that succeeds has found the record after Renew was called.
//   - A session whose record has gone never has it again.
//   - Acknowledge and a [Departure] have no effect for a session whose record has gone.
//   - In these two modes a reserved record counts as stopped for good for as long as it
//     stays. Otherwise everybody would wait for an acknowledgement that nobody is there to
//     give.
type Planner interface {
	Session
	// Incarnation returns the name of this session in surveys. No other session ever
	// has the same.
	Incarnation() string
	// Look returns everything, as it was at one instant after the call: the members,
	// whatever their mode, and everything about the plan. Any goroutine may call it,
	// whatever else the session does, and also when the session's own record has gone.
	Look(ctx context.Context) (Survey, error)
	// Survey returns everything at one instant, as soon as anything but the caller's own
	// Swap or Claim has changed since revision after, which is the revision of the Survey
	// before. If after is 0 it returns at once, with everything as of now. For libcluster's
	// own coordinator acknowledgements wait for one another, 25 ms at most. Only one
	// goroutine at a time calls Survey, Claim and Swap.
	Survey(ctx context.Context, after int64) (Survey, error)
	// Claim makes this session the coordinator if there is none, or if this session
	// already is, and reports whether it is. The Next of every session reports what the
	// coordinator says. It says nothing any more when its record has expired or was
	// removed.
	Claim(ctx context.Context, says []byte) (bool, error)
	// Swap writes the plan if, at one instant, this session coordinates and the present
	// plan has that revision; 0 means that there must be no plan. Otherwise it returns
	// [ErrNotCoordinator] or [ErrPlanChanged].
	Swap(ctx context.Context, revision int64, plan []byte) error
	// Acknowledge notes that this session has stopped for the plan of that revision. If there
	// is another plan by now, it returns [ErrPlanChanged].
	//
	// In mode [ModeCooperative] remaining names the partitions that it has not stopped yet, as text.
	Acknowledge(ctx context.Context, revision, generation int64, remaining string) error
	// SetDraining notes that the instance with an ID is to give its assignment away, or takes
	// that back. It is so for as long as the note is there, also for a later instance with that ID.
	SetDraining(ctx context.Context, id string, draining bool) error

	onStore
}

// onStore is what libcluster itself asks of its sessions on a store. It seals Planner: no other
// package can write it.
type onStore interface {
	// awaits has acknowledgements of these incarnations wait for one another.
	awaits(incarnations map[string]bool)
	// planFence and noteFence are what a transaction has to depend on: the plan of a
	// revision, or the session's note as it is now.
	planFence(revision int64) kv.Fence
	noteFence() kv.Fence
	// own returns the condition that the session's record is its own, and where.
	own() (kv.Space, kv.Cond)
}

// StoppedForGood is the generation in the note of a session that has left, or that was
// followed by another session of the same membership.
const StoppedForGood = math.MaxInt64

// Planning is what a session with a plan reports.
type Planning struct {
	// Plan is the present plan, nil if there is none.
	Plan []byte
	// Revision is the registry's number of the plan. It grows with every Swap.
	Revision int64
	// Coordinator is what the coordinator says; nil if there is no coordinator.
	Coordinator []byte
	// Draining are the IDs that [Planner.SetDraining] has noted, sorted.
	Draining []string
}

// Survey is everything that a registry holds of a cluster.
type Survey struct {
	// Revision is the registry's own revision, for the next Survey.
	Revision int64
	Planning
	Members []Recorded
	// Acknowledged is the generation of the latest note of each incarnation, and Remaining what
	// that note says the incarnation has not stopped yet, if anything.
	Acknowledged map[string]int64
	Remaining    map[string]string

	foreign []foreign // what was found besides members, since the survey before
}

// Recorded is a member's record as a [Survey] finds it: the record of a live instance, an
// orphaned record, or a record that is reserved for an instance that has left.
type Recorded struct {
	Member
	// Incarnation is that of the session that holds the record; empty if no session does.
	Incarnation string
	// Since grows from record to record in the order in which they appeared.
	Since int64
}

// Permanent marks an error of a [Registry] that no retry can mend, such as a
// wrong password. The first Join ends with it.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

func isPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}
