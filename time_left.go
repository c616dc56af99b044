package libcluster

import (
	"context"
	"time"
)

// timeLeftKey is that of what knows the time left, in the context of a function given to Run.
type timeLeftKey struct{}

// TimeLeft returns for how long the function of [Cluster.Run], [Cluster.RunWorkers],
// [Cluster.RunPrimary] or [Cluster.RunPartitions] that got ctx may still take to act and to
// stop. As a rule the record is renewed before that, which gives more time, also after ctx
// has ended: ask again. It
// returns 0 once the instance is fenced, and for this function it stays 0 when the instance
// has rejoined. If ends is false there is no limit, as in a static cluster, or with a
// context that is not of such a function.
//
// It is for a program that hands the work to something which outlives it, such as a child
// process. That has to be told by when to stop by itself: this process may be stopped or
// killed. A sleep of the machine counts as time that has passed.
func TimeLeft(ctx context.Context) (left time.Duration, ends bool) {
	of, ok := ctx.Value(timeLeftKey{}).(interface {
		remaining() (left time.Duration, ends bool)
	})
	if !ok {
		return 0, false
	}
	left, ends = of.remaining()
	return max(left, 0), ends
}
