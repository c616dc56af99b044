package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/operator"
)

// leaveTimeout bounds leaving: a registry that is gone, or a reader of our
// output that does not read, must not keep the program alive.
const leaveTimeout = 10 * time.Second

var errTaken = errors.New("each instance needs an ID of its own")

// node is one instance of the cluster in this process.
type node struct {
	t        transcript
	cluster  *libcluster.Cluster
	registry string // for people
	passive  bool
	work     time.Duration
	keep     time.Duration    // how long the assignment is kept after leaving
	taken    chan struct{}    // has an element once another instance has taken over the ID
	last     string           // the last event; the callback's, and after Leave anybody's
	told     libcluster.State // the last; the callback's
}

// newNodes makes the instances, none of which has joined. The errors are those
// of the command line.
func newNodes(o options, t transcript) ([]*node, error) {
	log := zap.NewNop() // what concerns the user is in the transcript
	if o.verbose {
		log = operator.NewLogger(zap.DebugLevel, t.stderr)
	}
	o.registry.LogTo(log)
	nodes := make([]*node, len(o.threads))
	for i := range nodes {
		n, err := newNode(o, i, t, log)
		if err != nil {
			return nil, o.explain(err)
		}
		nodes[i] = n
	}
	return nodes, nil
}

func newNode(o options, i int, t transcript, log *zap.Logger) (n *node, err error) {
	n = &node{
		registry: o.registry.String(),
		passive:  o.passive,
		work:     o.work,
		keep:     o.returning,
		taken:    make(chan struct{}, 1),
	}
	n.cluster, err = libcluster.New(libcluster.Config{
		Key:         o.key,
		Env:         o.env,
		Partition:   o.partition,
		ID:          o.id(i),
		Workers:     o.threads[i],
		Passive:     o.passive,
		Registry:    o.registry.Registry,
		TTL:         o.ttl,
		Mode:        o.mode,
		Partitions:  o.partitions,
		OnRebalance: n.rebalanced,
		Logger:      log,
	})
	if err != nil {
		return nil, err
	}
	n.t = t
	if o.nodes {
		n.t = t.of(n.cluster.ID())
	}
	return n, nil
}

// run joins, waits until ctx ends or the ID has been taken over, and leaves.
func (n *node) run(ctx context.Context) error {
	err := n.t.waitingFor(n.registry, n.trouble, func() error { return n.cluster.Join(ctx) })
	switch {
	case err == nil:
		n.t.say("cluster joined; sleeping until terminated")
		select {
		case <-ctx.Done():
		case <-n.taken:
			err = n.overtaken()
		}
	case ctx.Err() != nil:
		return nil // given up because told to
	case errors.Is(err, libcluster.ErrInstanceTaken): // before it was told an assignment, or just then
		err = n.overtaken()
	default:
		return fmt.Errorf("failed to join cluster: %s", oneLine(err))
	}
	if err == nil {
		n.t.say("will now leave the cluster")
	}
	switch leaveErr := n.leave(ctx); {
	case leaveErr != nil:
		// It has left all the same, so this is no failure: a whole system
		// that is shut down often ends etcd first.
		n.t.say("%s", oneLine(leaveErr))
	case err == nil:
		n.t.say("successfully left the cluster")
	}
	return err
}

// trouble is why it has not joined yet, if it is known.
func (n *node) trouble() string {
	err := n.cluster.Err()
	if err == nil {
		return ""
	}
	_, last, known := strings.Cut(oneLine(err), "; last: ")
	if !known {
		return ""
	}
	return strings.TrimPrefix(last, n.registry+": ")
}

func (n *node) overtaken() error {
	return fmt.Errorf("another instance has taken over the ID %q: %w", n.cluster.ID(), errTaken)
}

// leave leaves, ctx or no ctx.
func (n *node) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	err := n.cluster.Leave(ctx, libcluster.Returning(n.keep))
	if ctx.Err() == nil && n.last != "" && n.last != left {
		// The last callback has returned, but there was nothing to call it
		// for: a passive or fenced instance's state is the same after leaving.
		n.t.record(time.Now(), n.cluster.ID(), left, n.cluster.State())
	}
	return err
}

// rebalanced is the callback. An assignment is reported before anything acts on it, and
// its loss when all work has ended.
func (n *node) rebalanced(s libcluster.State) {
	if n.gives(s) {
		time.Sleep(n.work)
	}
	n.told = s
	now, why := time.Now(), n.cluster.Err()
	n.last = n.event(s, why)
	switch {
	case n.last == stopped:
		n.t.say("has stopped for the next plan")
	case n.last != fenced:
	case errors.Is(why, libcluster.ErrInstanceTaken):
		select {
		case n.taken <- struct{}{}:
		default:
		}
	case why == nil:
		n.t.say("fenced for a moment") // and back by now
	default:
		n.t.say("fenced: %s; will rejoin when %s answers", oneLine(why), n.registry)
	}
	n.t.rebalanced(n.cluster.Mode(), s)
	n.t.record(now, n.cluster.ID(), n.last, s)
}

// gives reports whether work has to stop for a state: all of it, or in mode cooperative that
// of some partitions.
func (n *node) gives(s libcluster.State) bool {
	if n.cluster.Mode() != libcluster.ModeCooperative {
		return !s.Active() && !n.passive
	}
	for p := range n.told.Held() {
		if !s.Holds(p.Number) {
			return true
		}
	}
	return false
}

// event names what a state comes of. why is that the instance has no assignment now,
// which may be later than the state: so the state is looked at first.
func (n *node) event(s libcluster.State, why error) string {
	switch {
	case !s.Active() && errors.Is(why, libcluster.ErrLeft):
		return left
	case !s.Active() && errors.Is(why, libcluster.ErrWaiting):
		return stopped
	case !s.Active() && !n.passive:
		return fenced
	case n.last == "":
		return joined
	case n.last == fenced:
		return rejoined
	}
	return rebalanced
}
