package libcluster

import (
	"context"
	"fmt"
)

// Changed returns a channel that is closed when something may have changed since the call:
// what [Cluster.View], [Cluster.State], [Cluster.Phase] or [Cluster.Err] return. To see every
// change, call Changed first, then look, then wait:
//
//	for {
//		changed := cluster.Changed()
//		show(cluster.View())
//		<-changed
//	}
//
// It is for what shows the cluster to people, or passes it on. Nothing waits for the receiver,
// and any number may wait: a receiver that is slow finds the newest view when it looks
// again, and those between are skipped. A later deadline is no change, nor is another error
// while the instance has no assignment anyway. When a deadline passes,
// [Cluster.State] says so at once, and the channel is closed soon after. A channel that has
// not been closed costs nothing, and needs no end.
func (c *Cluster) Changed() <-chan struct{} { return c.changed.next() }

// WaitActive waits until this instance has an assignment, and returns the state. It may be
// called before Join. If ctx ends before, the error also wraps what [Cluster.Err] returns. In
// a callback it would wait for itself.
func (c *Cluster) WaitActive(ctx context.Context) (State, error) {
	if c.cfg.Passive {
		return c.State(), ErrPassive
	}
	for {
		changed := c.changed.next()
		state := c.State()
		if state.Active() {
			return state, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if err := c.Err(); err != nil {
				return state, fmt.Errorf("libcluster: no assignment yet: %w: %w", context.Cause(ctx), err)
			}
			// It has got one just now: the state is read again.
		}
	}
}
