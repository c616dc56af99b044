package libcluster

import (
	"errors"
	"fmt"
)

var (
	// ErrJoined is returned by [Cluster.Join] and [Cluster.Run] while already
	// joined, and until a Run has returned.
	ErrJoined = errors.New("libcluster: already joined; call Leave first")

	// ErrRebalanced means that index, workers, total or the partitions held have changed. The
	// context of a function given to [Cluster.Run] ends with it, and the function runs again
	// under the new state.
	ErrRebalanced = errors.New("libcluster: the cluster has re-balanced")

	// ErrLeft means that the instance has no assignment because it has left, because
	// Leave was called while it was joining, or because it has never joined.
	ErrLeft = errors.New("libcluster: left, or never joined")

	// ErrDeadlinePassed means that the instance was fenced because it could not renew
	// its record in time. It rejoins by itself when the registry answers.
	ErrDeadlinePassed = errors.New("libcluster: the record could not be renewed in time")

	// ErrRecordGone means that the instance was fenced because its record has vanished
	// from the registry: it has expired, or was deleted by hand. The instance rejoins by
	// itself.
	ErrRecordGone = errors.New("libcluster: the record has gone from the registry")

	// ErrRegistryReset means that the instance was fenced because its registry was
	// restored from an older backup, or replaced by another one: what the instance knows
	// and what the others know may no longer fit. It rejoins by itself.
	// Generations may start anew from a lower number.
	//
	// A restored etcd that has the cluster ID of the one before is known by its revision. If that has
	// come as far again before the instance asks, the instance is fenced by its next renewal, unless
	// its lease is in the backup, and what it knows until then may be of both. A passive instance
	// has no lease, and is not told.
	ErrRegistryReset = errors.New("libcluster: the registry has gone back in time or was replaced")

	// ErrInstanceTaken means that the instance was fenced because another instance has
	// taken over its ID. It does not fight for the ID, and rejoins only with
	// [Config.ReclaimAfter]: two instances with one ID are a mistake of configuration,
	// or the older instance is a leftover.
	ErrInstanceTaken = errors.New("libcluster: another instance has taken over this ID")
)

var (
	// ErrSuperseded means that the instance has left because a newer version of the
	// application is there: see [Config.Superseded].
	ErrSuperseded = errors.New("libcluster: superseded by a newer version")

	// ErrGivenUp means that the instance has left because it was fenced for longer than
	// [Config.GiveUpAfter]. The error also wraps why it was fenced.
	ErrGivenUp = errors.New("libcluster: fenced for too long")
)

var (
	// ErrWaiting means that the instance has joined, but has no assignment until a plan
	// is committed that names it. Only modes with a plan have it. See [Cluster.Blockers].
	ErrWaiting = errors.New("libcluster: waiting for a plan that gives this instance an assignment")

	// ErrDrained means that the instance has no assignment because it is to have none: see
	// [Cluster.Drain] and [Cluster.SetDraining]. In a mode with a plan it is an [ErrWaiting],
	// too.
	ErrDrained = errors.New("libcluster: drained")

	// ErrStuck means that the instance was fenced because its application had not
	// stopped after [Config.DrainTimeout]. It rejoins when the application has stopped.
	ErrStuck = errors.New("libcluster: the application has not stopped in time")

	// ErrCannotPlan is returned by [New] in a mode that needs a plan if the registry cannot
	// keep a plan, and in modes [ModeExclusive] and
	// [ModeCooperative] if the registry's records do not expire; by [Cluster.Drain]; and by
	// [Cluster.Join] if a session cannot do what the registry has promised.
	ErrCannotPlan = errors.New("this registry cannot keep a plan")

	// ErrNotCoordinator is returned by [Planner.Swap] if the session no longer
	// coordinates the cluster.
	ErrNotCoordinator = errors.New("libcluster: this session does not coordinate the cluster")

	// ErrPlanChanged is returned by a [Planner] if the plan has changed meanwhile.
	ErrPlanChanged = errors.New("libcluster: the plan has changed meanwhile")
)

// ErrPassive is returned by methods of a passive instance that are about its own record or
// assignment, since it has none.
var ErrPassive = errors.New("libcluster: a passive instance has no record and no workers")

// ErrCannotLook is returned by [Cluster.Coverage] if the registry cannot list the
// members. A static registry cannot: it knows only this instance's assignment.
var ErrCannotLook = errors.New("libcluster: this registry keeps no list of the members")

// ErrCannotReturn is returned by [Cluster.Leave] if it was called with [Returning] and
// the registry cannot reserve an assignment. The instance has left for good.
var ErrCannotReturn = errors.New("libcluster: left, but this registry cannot reserve an assignment")

// ConfigError says which field of a [Config] breaks which rule. Its message has the
// value, unless the value could be secret.
type ConfigError struct {
	// Field is the field's name, such as "Env" or "Registry".
	Field string
	// Err says what is wrong and what is right.
	Err error
}

func (e *ConfigError) Error() string { return fmt.Sprintf("libcluster: Config.%v", e.Err) }
func (e *ConfigError) Unwrap() error { return e.Err }

// errIdle is why a draining member has no assignment.
var errIdle = fmt.Errorf("%w: %w", ErrWaiting, ErrDrained)

// isFinal reports whether err says that the incarnation is over, rather than
// that nothing is known.
func isFinal(err error) bool {
	return errors.Is(err, ErrRecordGone) || errors.Is(err, ErrInstanceTaken) || errors.Is(err, ErrRegistryReset) ||
		errors.Is(err, ErrDrained)
}
