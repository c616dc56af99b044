package libcluster

import (
	"errors"
	"fmt"
)

var (
	// ErrJoined is returned by [Cluster.Join] and [Cluster.Run] while already
	// joined, and until a Run has returned.
	ErrJoined = errors.New("libcluster: already joined; call Leave first")

	// ErrRebalanced is why the context of a function given to [Cluster.Run] has
	// ended when index, workers or total has changed. It is run again under the
	// new state.
	ErrRebalanced = errors.New("libcluster: the cluster has re-balanced")

	// ErrLeft is why an instance has no place that has left, was told to leave
	// while it was joining, or has never joined.
	ErrLeft = errors.New("libcluster: left, or never joined")

	// ErrDeadlinePassed is why an instance is fenced whose record could not be
	// renewed in time. It rejoins by itself when the registry answers.
	ErrDeadlinePassed = errors.New("libcluster: the record could not be renewed in time")

	// ErrRecordGone is why an instance is fenced whose record has vanished
	// from the registry: expired, or deleted by hand. It rejoins by itself.
	ErrRecordGone = errors.New("libcluster: the record has gone from the registry")

	// ErrRegistryReset is why an instance is fenced that finds its registry
	// restored from an older backup, or replaced by another one: what it knows
	// and what the others know may no longer fit. It rejoins by itself.
	// Generations may start anew from a lower number.
	ErrRegistryReset = errors.New("libcluster: the registry has gone back in time or was replaced")

	// ErrInstanceTaken is why an instance is fenced whose ID another one has
	// taken over. It does not fight for it, and rejoins only with
	// [Config.ReclaimAfter]: two instances with one ID are a mistake of configuration,
	// or the older one is a leftover.
	ErrInstanceTaken = errors.New("libcluster: another instance has taken over this ID")
)

var (
	// ErrWaiting is why an instance that has joined has no place: in a mode with
	// a plan, until one is committed that names it. See [Cluster.Blockers].
	ErrWaiting = errors.New("libcluster: waiting for a plan that gives this instance a place")

	// ErrStuck is why an instance is fenced whose application had not stopped
	// after [Config.DrainTimeout]. It rejoins when the application has.
	ErrStuck = errors.New("libcluster: the application has not stopped in time")

	// ErrCannotPlan is returned by [Cluster.Join] in a mode that needs a plan, with
	// a registry that cannot keep one, or whose records do not expire as mode
	// [ModeExclusive] needs.
	ErrCannotPlan = errors.New("libcluster: Config.Mode: this registry cannot keep a plan")

	// ErrNotCoordinator is returned by [Planner.Swap] when the session does not
	// coordinate the cluster any more.
	ErrNotCoordinator = errors.New("libcluster: this session does not coordinate the cluster")

	// ErrPlanChanged is returned by a [Planner] when the plan is another by now.
	ErrPlanChanged = errors.New("libcluster: the plan has changed meanwhile")
)

// ErrPassive is returned by [Cluster.SetWorkers] and [Cluster.Run] of a passive
// instance, which has no workers.
var ErrPassive = errors.New("libcluster: a passive instance has no workers")

// ErrCannotLook is returned by [Cluster.Coverage] if the registry cannot show who is
// there, as a static one cannot: it knows this instance's place alone.
var ErrCannotLook = errors.New("libcluster: this registry cannot show who is there")

// ErrCannotReturn is returned by [Cluster.Leave] when it was asked to keep the
// place and the registry has no means to. The instance has left for good.
var ErrCannotReturn = errors.New("libcluster: left, but this registry cannot keep a place")

// ConfigError says which field of a [Config] breaks which rule. The value is
// in the message, except where it could be secret.
type ConfigError struct {
	// Field is the field's name, such as "Env" or "Registry".
	Field string
	// Err says what is wrong and what is right.
	Err error
}

func (e *ConfigError) Error() string { return fmt.Sprintf("libcluster: Config.%v", e.Err) }
func (e *ConfigError) Unwrap() error { return e.Err }
