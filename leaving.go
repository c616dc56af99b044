package libcluster

import (
	"fmt"
	"time"
)

// LeaveOption changes how [Cluster.Leave] leaves. It is a [RunOption] too: Run leaves in
// this way when it ends, for whatever reason, unless Leave was called elsewhere before.
type LeaveOption func(*leaving)

func (o LeaveOption) toRun(r *runner) { o(&r.leaving) }

type leaving struct{ returning time.Duration }

func (l leaving) check() error {
	if l.returning < 0 || l.returning > maxTTL {
		return fmt.Errorf("libcluster: Returning(%v): must be 0 to %v", l.returning, maxTTL)
	}
	return nil
}

// Returning leaves for a restart: the assignment is reserved for d, up to 24 h, and no
// instance acts on it. If an instance with the same ID joins within d, it gets the
// assignment again, and no other instance is called back at all. If none joins, it is as
// if the instance had vanished at the end of d. If the registry cannot reserve an
// assignment, Leave returns [ErrCannotReturn].
func Returning(d time.Duration) LeaveOption {
	return func(l *leaving) { l.returning = d }
}
