//go:build linux && faults

package faults_test

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
)

const (
	// actorTTL lets an actor sit out most losses of an etcd leader.
	actorTTL = 3 * time.Second

	// drainTimeout is shorter than the longest time that an actor takes to stop.
	drainTimeout = time.Second

	// actorPartitions are divided between the actors in mode cooperative.
	actorPartitions = 48
)

// actEvery is how often a run acts. In mode cooperative there are many at once.
func actEvery(mode libcluster.Mode) time.Duration {
	if mode == libcluster.ModeCooperative {
		return 50 * time.Millisecond
	}
	return 5 * time.Millisecond
}

// playActor is an actor's side: what it does it does in runs.
func playActor(p part) error {
	file, err := os.OpenFile(p.Acts, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	until, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log, err := zap.NewDevelopment() // read if the test fails
	if err != nil {
		return err
	}
	registry, closeRegistry, err := registryOf(p)
	if err != nil {
		return err
	}
	defer closeRegistry()
	config := libcluster.Config{
		Key: cmp.Or(p.Key, cluster), ID: p.ID, Workers: p.Workers, TTL: p.TTL, Mode: p.Mode,
		Logger: log, DrainTimeout: drainTimeout, Registry: registry,
	}
	if p.Mode == libcluster.ModeCooperative {
		config.Partitions = actorPartitions
	}
	c, err := libcluster.New(config)
	if err != nil {
		return err
	}
	a := &acting{Cluster: c, mode: p.Mode, file: file, until: until, life: int64(boot())}
	if p.Mode == libcluster.ModeCooperative {
		err = c.RunPartitions(until, a.runPartition)
	} else {
		err = c.Run(until, a.runAll)
	}
	if errors.Is(err, libcluster.ErrInstanceTaken) || until.Err() != nil {
		return nil
	}
	return err
}

// acting is an actor's process at work.
type acting struct {
	*libcluster.Cluster
	mode  libcluster.Mode
	file  *os.File
	until context.Context // ends when it is to leave
	life  int64
	runs  atomic.Int64
}

// runAll is the run in mode exclusive.
func (a *acting) runAll(ctx context.Context, _ libcluster.State) error {
	return a.run(ctx, deed{}, func(d *deed, s libcluster.State) bool {
		d.index, d.workers, d.total, d.generation = s.Index, s.Workers, s.Total, s.Generation
		return s.Active()
	})
}

// runPartition is the run for a partition.
func (a *acting) runPartition(ctx context.Context, p libcluster.Partition) error {
	d := deed{index: p.Number, workers: 1, total: p.Of, generation: p.Token}
	return a.run(ctx, d, func(_ *deed, s libcluster.State) bool {
		now, held := s.Partition(p.Number)
		return held && now == p
	})
}

// run acts as often as it can for as long as the state that it has just read allows, and
// takes a while to stop. place says whether a state has the place, and fills in which.
func (a *acting) run(ctx context.Context, d deed, place func(*deed, libcluster.State) bool) error {
	d.id, d.life, d.run = a.ID(), a.life, int(a.runs.Add(1))
	write := func(what string) error {
		d.what = what
		_, err := a.file.Write(d.line())
		return err
	}
	d.at = boot()
	if err := write(begin); err != nil {
		return err
	}
	every := actEvery(a.mode)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		d.at = boot()
		s := a.State()
		d.by = boot()
		if place(&d, s) {
			d.deadline = boot() + time.Until(s.Deadline)
			time.Sleep(rand.N(every / 2)) // what comes before a deed, and can be interrupted
			if err := write(acts); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	d.at = boot()
	s := a.State()
	why := a.why(ctx, place(&d, s))
	d.generation = s.Generation
	if err := write(why); err != nil {
		return err
	}
	time.Sleep(windingDown(a.mode))
	d.at = boot()
	return write(end)
}

// why returns why the context of a run has ended. has: the state has its place yet.
func (a *acting) why(ctx context.Context, has bool) string {
	cause := context.Cause(ctx)
	lost := func(why error) bool { return errors.Is(cause, why) }
	switch {
	case a.until.Err() != nil:
		return left
	case slices.ContainsFunc([]error{
		libcluster.ErrDeadlinePassed, libcluster.ErrRecordGone, libcluster.ErrRegistryReset, libcluster.ErrInstanceTaken, libcluster.ErrStuck,
	}, lost):
		return fenced
	case !errors.Is(cause, libcluster.ErrRebalanced):
		return unasked
	case has:
		return kept
	}
	return moved
}

// windingDown is how long it takes to stop: little, now and then a while, and
// sometimes longer than it may. An instance of which one of many partitions takes too long
// loses them all, and so this is rare there; and a while is more frequent, since fewer stop.
func windingDown(mode libcluster.Mode) time.Duration {
	while, tooLong := 6, 40
	if mode == libcluster.ModeCooperative {
		while, tooLong = 20, 40*actorPartitions/4
	}
	switch {
	case rand.N(tooLong) == 0:
		return drainTimeout + rand.N(2*time.Second)
	case rand.N(40) < while:
		return rand.N(400 * time.Millisecond)
	}
	return rand.N(5 * time.Millisecond)
}
