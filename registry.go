package libcluster

import (
	"context"
	"errors"
	"math"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/chance"
)

// Registry is where members record themselves and learn of one another.
//
// A registry does I/O and nothing else: libcluster decides, and has every timer, retry,
// deadline and goroutine. All calls of a registry block, all take a context, and all
// return soon after that context ends; an attempt to join that has failed may take 3 s more
// to end what it has begun. What only some registries can do is an optional interface: [Checker] of a registry, [Returner], [Looker] and [Planner] of a session.
//
// One value may serve any number of clusters at once.
type Registry interface {
	// Join records the member and opens a session for it; for a passive instance it
	// only opens a session. A record that is already there under the same ID is taken
	// over, unless Previous says otherwise.
	//
	// An instance that will be refused must not have taken anything: before the registry
	// lets it take over the record of a living instance, it asks [Registration.MayTakeOver].
	//
	// Join also returns how long the record lives, from the moment of *calling* Join,
	// unless it is renewed; 0 means for ever. An error that no retry can mend is wrapped
	// with [Permanent]. After an error nothing is left open.
	Join(ctx context.Context, r Registration) (Session, time.Duration, error)
}

// Registration is what an instance asks of a registry when it joins.
type Registration struct {
	// Key, Partition and Env name the cluster. Partition may be empty.
	Key, Partition, Env string
	// Member is the record to publish.
	Member Member
	// Passive asks to watch the cluster without being a member of it.
	Passive bool
	// Mode is the cluster's. In mode [ModePlanned] and [ModeExclusive] the session must be
	// a [Planner]; a registry whose sessions are not may leave it alone.
	Mode Mode
	// TTL is how long the record should outlive its last renewal. The
	// registry may grant another one.
	TTL time.Duration
	// Stay is the same for all attempts to join in one stay. A record that an earlier
	// attempt has made is this instance's own, also if that attempt failed or its answer
	// was lost. Nil: the same stay as Previous's, or a stay with no other attempt.
	Stay *Stay
	// Previous is set if the stay has had a session before: the session that the instance
	// lost when it was fenced, or that of an attempt to join that took too long. It is
	// closed once the new session has joined. If another instance has the record by now,
	// Join returns [ErrInstanceTaken]: an instance that was cut off for a while must not
	// take its ID back from the instance that was started in its place.
	//
	// In mode [ModeExclusive] the application has stopped by then. With joining, a
	// [Planner] notes that Previous has stopped for good, and so have all attempts of the
	// stay that were made before Join was called. A request that arrives late must not say
	// so of a later attempt, which may act.
	Previous Session
	// Logger is never nil and never blocks. Lines are written later, so what their fields
	// refer to must not change.
	Logger *zap.Logger

	chance *chance.Source // what is left to chance is drawn from here
}

// MayTakeOver returns the error with which the cluster would refuse this instance, or nil.
// The survey is of the moment just before the instance's first Join takes over the record
// of a living instance.
func (r Registration) MayTakeOver(s Survey) error {
	total, mode := int64(r.Member.Workers), r.Member.plans.mode
	for _, m := range s.Members {
		switch {
		case m.Incarnation != "" && !m.kept && m.plans.mode != mode:
			return Permanent(&ModeError{mode, m.plans.mode})
		case m.ID != r.Member.ID && m.plans.mode == mode && (mode == ModeDirect || m.Incarnation != ""):
			total += int64(m.Workers)
		}
	}
	if total > MaxWorkers {
		return Permanent(errTotal(total))
	}
	return nil
}

// Stay is the time from one [Cluster.Join] to the [Cluster.Leave] that ends it.
type Stay struct {
	// Notes is what the registry wants to know again at the next attempt. Only the
	// registry uses it. Attempts of one stay come one after another.
	Notes any
}

// Cluster returns KEY/ENV or KEY/PARTITION/ENV, the cluster's name for people.
func (r Registration) Cluster() string {
	if r.Partition == "" {
		return r.Key + "/" + r.Env
	}
	return r.Key + "/" + r.Partition + "/" + r.Env
}

// Session is one stay of one instance in a registry. Next is called by one goroutine,
// and the other methods by any. Renew is called again while an earlier call still waits
// for its answer, which counts whenever it comes.
//
// Next, Renew and Update return [ErrRecordGone] if the record is known to have gone,
// [ErrInstanceTaken] if another instance has it, and [ErrRegistryReset] if the registry
// was restored or replaced. Any other error means that the session does not know, and
// libcluster calls it again.
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
	// Leave removes the record, so that the others notice at once, and closes the
	// session. Whatever it returns, nothing of the session is left in this process.
	Leave(ctx context.Context) error
	// Close closes the session and lets its record expire.
	Close() error
}

// Checker is implemented by a registry that can refuse a registration before joining.
// [New] asks it.
type Checker interface {
	Check(r Registration) error
}

// Returner is implemented by a session whose registry can reserve an assignment; see
// [Returning].
type Returner interface {
	// LeaveFor closes the session like Leave, but replaces the record by kept, which
	// expires after d unless the same ID joins first.
	LeaveFor(ctx context.Context, d time.Duration, kept Member) error
}

// Looker is implemented by a session that can read everything that the registry holds at
// this moment; see [Cluster.Coverage] and [Config.ReclaimAfter]. Any goroutine may call it,
// whatever else the session does, and also when the session's own record has gone.
type Looker interface {
	// Look returns everything, as it was at one instant after the call: the members,
	// whatever their mode, and everything about the plan.
	Look(ctx context.Context) (Survey, error)
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
	Assigned *Assignment
	// Planned is the only field that is set by a session that was joined in a mode with a
	// plan.
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

// Assignment is a range, with the total, that is given and not computed.
type Assignment struct {
	// Index is this instance's base index, or -1 for a passive one.
	Index int
	// Workers is the number of its workers.
	Workers int
	// Total is the number of workers in the cluster.
	Total int
}

// Planner is implemented by a session whose registry can keep a plan, which the
// modes [ModePlanned] and [ModeExclusive] need. In these modes Next reports the plan
// instead of the members. Several goroutines may use a Planner. In mode [ModeExclusive]
// its record must expire: Join and Renew return more than 0.
//
// The plan is one record without a lease, which only Swap writes. The safety of
// [ModeExclusive] rests on these rules:
//
//   - Swap is a compare-and-swap, and has no effect if the session does not coordinate.
//   - A Survey is of one instant and no mixture, and never of an earlier instant than the
//     Survey before.
//   - A Renew that succeeds has found the record after Renew was called.
//   - A session whose record has gone never has it again.
//   - Drained and LeaveDrained have no effect for a session whose record has gone.
type Planner interface {
	// Incarnation returns the name of this session in surveys. No other session ever
	// has the same.
	Incarnation() string
	// Survey returns everything at one instant, as soon as anything but the caller's own
	// Swap or Claim has changed since revision after, which is the revision of the Survey
	// before. If after is 0 it returns at once, with everything as of now. Only one
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
	// Drained notes that this session has stopped for the plan of that revision. If there
	// is another plan by now, it returns [ErrPlanChanged].
	Drained(ctx context.Context, revision, generation int64) error
	// LeaveDrained leaves, and in the same step notes that this session has stopped for
	// good. If d is above 0, kept replaces the record and expires after d, as with
	// LeaveFor. The note may go after the TTL.
	//
	// In mode [ModeExclusive] a reserved record must count as stopped for good for as long
	// as it stays, also a record that LeaveFor has left. Otherwise everybody would wait for
	// an acknowledgement that nobody is there to give.
	LeaveDrained(ctx context.Context, d time.Duration, kept Member) error
}

// DrainedForGood is the generation in the note of a session that has left, or that was
// followed by another session of the same stay.
const DrainedForGood = math.MaxInt64

// Planning is what a session with a plan reports.
type Planning struct {
	// Plan is the present plan, nil if there is none.
	Plan []byte
	// Revision is the registry's number of the plan. It grows with every Swap.
	Revision int64
	// Coordinator is what the coordinator says; nil if there is no coordinator.
	Coordinator []byte
}

// Survey is everything that a registry holds of a cluster.
type Survey struct {
	// Revision is the registry's own revision, for the next Survey.
	Revision int64
	Planning
	Members []Recorded
	// Drained is the generation of the latest note of each incarnation.
	Drained map[string]int64

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
