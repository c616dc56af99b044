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
// It is the seam between what libcluster decides and where it finds out: a
// registry does I/O and nothing else. All its calls block, all take a context
// and return soon after that ends; every timer, retry, deadline and goroutine
// is above the seam. What not all of them can do is an optional interface:
// [Checker] of a registry, [Returner], [Looker] and [Planner] of a session.
//
// One value may serve any number of clusters at once.
type Registry interface {
	// Join records the member and opens a session for it, or for a passive
	// instance only opens one. A record that is there already under the same
	// ID is taken over, unless Previous says otherwise.
	//
	// An instance that will be refused must not have taken anything: before the registry
	// lets it take over the record of a living instance, it asks [Registration.MayTakeOver].
	//
	// It also returns how long the record lives from the moment of *calling*
	// Join unless it is renewed; 0 means for ever. An error that no retry can
	// mend is wrapped with [Permanent]. After an error nothing is left open.
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
	// Stay is the same for all attempts to join of one stay. A record that an
	// earlier attempt has made is this instance's own, also if that attempt
	// failed or its answer was lost. Nil: the same stay as Previous's, or one
	// with no other attempt.
	Stay *Stay
	// Previous is set when the stay has had a session: the one that the instance
	// lost when it was fenced, or that of an attempt to join that took too long. It
	// is closed once this one has joined. If by now somebody else has the record,
	// Join returns [ErrInstanceTaken]: an instance that was cut off for a while must
	// not take its ID back from the one that was started in its stead.
	//
	// In mode [ModeExclusive] the application has stopped by then, and a [Planner]
	// notes with joining that Previous has, for good, and so have all attempts of
	// the stay that were made before Join was called. Of a later one a request
	// that arrives late must not say so: it may act.
	Previous Session
	// Logger is never nil and never blocks: lines are written later, and so what their
	// fields refer to must not change.
	Logger *zap.Logger

	chance *chance.Source // what is left to chance is drawn from here
}

// MayTakeOver tells why the cluster would refuse this instance, given all that there is
// just before its first Join takes over the record of a living instance.
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
	// Notes is what the registry wants to know again at the next attempt. It is
	// the registry's alone; attempts of one stay come one after another.
	Notes any
}

// Cluster returns KEY/ENV or KEY/PARTITION/ENV, the cluster's name for people.
func (r Registration) Cluster() string {
	if r.Partition == "" {
		return r.Key + "/" + r.Env
	}
	return r.Key + "/" + r.Partition + "/" + r.Env
}

// Session is one stay of one instance in a registry. Next is called by one
// goroutine, and the rest by any: Renew is called again while an earlier call
// still waits for its answer, which counts whenever it comes.
//
// Next, Renew and Update return [ErrRecordGone] when the record is known to
// have gone, [ErrInstanceTaken] when somebody else has it, and [ErrRegistryReset]
// when the registry is not the one that it was. Any other error says that they
// do not know, and they are called again.
type Session interface {
	// Next blocks until something has changed. The first call returns the
	// members as they were at the instant of joining. No change is missed:
	// where one could have been, the session returns everything anew.
	Next(ctx context.Context) (Change, error)
	// Renew keeps the record alive and confirms that it is still there. It
	// returns for how long, counted from the moment of *calling* Renew, as
	// Join does.
	Renew(ctx context.Context) (time.Duration, error)
	// Update publishes another worker count or other metadata at once.
	Update(ctx context.Context, m Member) error
	// Leave removes the record, so that the others notice at once, and closes
	// the session. Whatever it returns, nothing of the session is left here.
	Leave(ctx context.Context) error
	// Close lets go of the session and leaves its record to expire.
	Close() error
}

// Checker is implemented by a registry that can tell before joining that a
// registration will not do. [New] asks it.
type Checker interface {
	Check(r Registration) error
}

// Returner is implemented by a session whose registry can keep a place; see
// [Returning].
type Returner interface {
	// LeaveFor leaves as Leave does, but for the record: it becomes kept and stays
	// for d, and then goes unless the same ID has joined again.
	LeaveFor(ctx context.Context, d time.Duration, kept Member) error
}

// Looker is implemented by a session that can tell what there is at this moment;
// see [Cluster.Coverage] and [Config.ReclaimAfter]. It is asked by any goroutine, whatever else the session
// does, and also when the session's own record has gone.
type Looker interface {
	// Look returns everything, as it was at one instant after it was called: the
	// members, in whatever mode, and what there is of a plan.
	Look(ctx context.Context) (Survey, error)
}

// Change is what [Session.Next] reports.
type Change struct {
	// Generation is the number of the set of members that results. It says
	// which set it is: two sessions that report the same generation have been
	// told of the same members.
	Generation int64
	// Reset says that Events hold every member there is: forget the rest.
	Reset bool
	// Events are in the order in which they happened.
	Events []Event
	// Assigned is set by a registry that knows this instance's place without
	// knowing the members, as static configuration does.
	Assigned *Assignment
	// Planned is set, and all else is not, by a session that was joined in a mode
	// with a plan.
	Planned *Planning

	foreign []foreign // what the registry has found besides members
}

// Event is a member that appeared, changed or went.
type Event struct {
	// Member is the new record. Of one that is gone only the ID counts.
	Member Member
	Gone   bool
	// Orphan says that no session holds the record, and that it never expires: a
	// stranger has written it. A registry that can't tell leaves it false.
	Orphan bool
}

// Assignment is a place that is given, not computed.
type Assignment struct {
	// Index is this instance's base index, or -1 for a passive one.
	Index int
	// Workers is the number of its workers.
	Workers int
	// Total is the number of workers in the cluster.
	Total int
}

// Planner is implemented by a session whose registry can keep a plan, which the
// modes [ModePlanned] and [ModeExclusive] need. Joined in one of these its Next reports
// the plan instead of the members. It may be used by several goroutines. In mode
// [ModeExclusive] its record must expire: Join and Renew return more than 0.
//
// The plan is one record without a lease, which only Swap writes. The safety of
// [ModeExclusive] rests on these: Swap is a compare-and-swap, and has no
// effect for a session that does not coordinate; a Survey is of one instant
// and no mixture, and never of an earlier one than the Survey before; a Renew that
// succeeds has found the record after it was called; a session whose record has gone
// never has it again; and Drained and LeaveDrained have no effect for such a one.
type Planner interface {
	// Incarnation returns what surveys know this session by, which is no other
	// session's, ever.
	Incarnation() string
	// Survey returns all that there is at one instant, as soon as anything but
	// the caller's own Swap or Claim has changed since revision after, that of
	// the Survey before; at once, and as of now, if that is 0. One goroutine at
	// a time calls Survey, Claim and Swap.
	Survey(ctx context.Context, after int64) (Survey, error)
	// Claim makes this session the coordinator if there is none, or if it is
	// already, and reports whether it is. What it says, everybody's Next reports.
	// It says nothing any more when the session's record has expired or left.
	Claim(ctx context.Context, says []byte) (bool, error)
	// Swap writes the plan if, at one instant, this session coordinates and the
	// present plan is of that revision, 0 if there must be none. Otherwise it
	// returns [ErrNotCoordinator] or [ErrPlanChanged].
	Swap(ctx context.Context, revision int64, plan []byte) error
	// Drained notes that this session has stopped, for the plan of that
	// revision; if there is another by now, it returns [ErrPlanChanged].
	Drained(ctx context.Context, revision, generation int64) error
	// LeaveDrained leaves, and in the same step notes that this session has
	// stopped for good; with d above 0 the record becomes kept and stays for d, as
	// LeaveFor has it. The note may go after the TTL.
	//
	// In mode [ModeExclusive] a record that stays, be it by LeaveFor, is of an
	// incarnation that is noted to have stopped for good for as long as the record
	// stays: there is nobody who could say so, and all would wait.
	LeaveDrained(ctx context.Context, d time.Duration, kept Member) error
}

// DrainedForGood is the generation that the note of a session has that has left,
// or that was followed by another of the same stay.
const DrainedForGood = math.MaxInt64

// Planning is what a session with a plan reports.
type Planning struct {
	// Plan is the present plan, nil if there is none.
	Plan []byte
	// Revision is the registry's number of it. It grows with every Swap.
	Revision int64
	// Coordinator is what the coordinator says, nil if there is none.
	Coordinator []byte
}

// Survey is everything that a registry holds of a cluster.
type Survey struct {
	// Revision is the registry's own, for the next Survey.
	Revision int64
	Planning
	Members []Recorded
	// Drained is the generation of the latest note of each incarnation.
	Drained map[string]int64

	foreign []foreign // what was found besides members, since the survey before
}

// Recorded is a member's record as a [Survey] finds it: a live one's, one that a
// stranger has written, or one that is kept for an instance that has left.
type Recorded struct {
	Member
	// Incarnation is of the session that holds the record; empty: of none.
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
