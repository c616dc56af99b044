package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/operator"
)

// lookAgain is how often watch looks for a change: a passive instance is called
// back for another total only, and here every change is of interest.
const lookAgain = 100 * time.Millisecond

// askAgain is how often it asks the registry whether every index is held.
const askAgain = time.Second

// dialTimeout is what a connection on this host may take, at the very most.
const dialTimeout = 5 * time.Second

// ofAnInstance are the flags that mean nothing to who only looks.
var ofAnInstance = []string{"instance", "threads", "nodes", "passive", "returning", "index", "total", "static-env", "work"}

// show is the commands ls, which prints the members once, and watch, which goes on
// printing them whenever they change.
func show(ctx context.Context, command string, args []string, stdout, stderr io.Writer) int {
	f := newFlags().looking()
	o, err := f.parse(ctx, args)
	if status, done := settled(err, lookUsage, stdout); done {
		return status
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	t := transcriptTo(stdout, stderr, end)
	if err == nil {
		err = f.checkLook()
	}
	var l *looker
	if err == nil {
		l, err = newLooker(o, t)
	}
	if err != nil {
		t.say("%s: %s; try '%s %s --help'", command, oneLine(err), program, command)
		return exitUsage
	}
	write := func(c census) {
		text := c.table()
		switch {
		case o.json:
			text = c.line()
		case command == "watch":
			text = time.Now().Format(time.TimeOnly) + "  " + text + "\n"
		}
		t.write(t.stdout, "standard output", text)
	}
	failed := l.look(ctx, func() {
		c := l.take()
		c.Coverage = l.covered(ctx)
		write(c)
		if command == "watch" {
			l.watch(ctx, c, write)
		}
	})
	if failed || t.broken.Load() {
		return exitFailed
	}
	return exitOK
}

func transcriptTo(stdout, stderr io.Writer, end func()) transcript {
	return newTranscript(&output{
		stderr: zapcore.Lock(zapcore.AddSync(stderr)),
		stdout: zapcore.Lock(zapcore.AddSync(stdout)),
		end:    end,
	})
}

// checkLook refuses what does not say where to look.
func (f *flags) checkLook() error {
	for _, name := range ofAnInstance {
		if f.Given(name) {
			return fmt.Errorf("%s: is about an instance, and this is none", f.Shown(name))
		}
	}
	if f.timeout <= 0 {
		return fmt.Errorf("%s: must be positive", f.Shown("timeout"))
	}
	if !f.Given("registry") {
		return errors.New("needs a registry; give -r/--registry, such as -r embedded:")
	}
	return nil
}

// looker sees a cluster through a passive instance.
type looker struct {
	options
	t       transcript
	cluster *libcluster.Cluster
}

// newLooker has not looked yet. Its errors are those of the command line.
func newLooker(o options, t transcript) (*looker, error) {
	l := &looker{options: o, t: t}
	return l, o.explain(l.prepare())
}

func (l *looker) prepare() (err error) {
	log := zap.NewNop()
	if l.verbose {
		log = operator.NewLogger(zap.DebugLevel, l.t.stderr)
	}
	l.cluster, err = libcluster.New(libcluster.Config{
		Key: l.key, Env: l.env, Partition: l.partition, Mode: l.mode, Partitions: l.partitions,
		Passive: true, Registry: l.registry.Registry, TTL: l.ttl, Logger: log,
	})
	return err
}

// join joins in the mode and with the partitions that the cluster has, which are only found out
// by joining, unless they are given.
func (l *looker) join(ctx context.Context) error {
	err := l.cluster.Join(ctx)
	var other *libcluster.ModeError
	if !errors.As(err, &other) {
		return err
	}
	if l.mode != libcluster.ModeDirect && (l.mode != other.Cluster || l.partitions != 0) {
		return err // as it was given
	}
	l.mode, l.partitions = other.Cluster, other.ClusterPartitions
	if err := l.prepare(); err != nil {
		return err
	}
	return l.cluster.Join(ctx)
}

// look has something done while the cluster can be seen, unless ctx ends before. It
// reports whether it has failed.
func (l *looker) look(ctx context.Context, do func()) (failed bool) {
	if l.registry.Embedded != nil && !listens(l.registry.Embedded.Port) {
		l.t.say("cannot see the cluster: no etcd runs at 127.0.0.1:%d, and with it no cluster; "+
			"start an instance with the same -r/--registry first", l.registry.Embedded.Port)
		return true
	}
	return runAll(ctx, l.options, l.t, func() bool {
		if err := l.registry.Exists(); err != nil {
			l.t.say("cannot see the cluster: %s", oneLine(err))
			return true
		}
		err := l.t.waitingFor(l.registry.String(), untold, func() error {
			ctx, cancel := context.WithTimeoutCause(ctx, l.timeout, fmt.Errorf("not seen within %v; see --timeout", l.timeout))
			defer cancel()
			return l.join(ctx)
		})
		if err != nil {
			if ctx.Err() != nil {
				return false // given up because told to
			}
			l.t.say("cannot see the cluster: %s", oneLine(err))
			return true
		}
		do()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		defer cancel()
		if err := l.cluster.Leave(ctx); err != nil {
			l.t.say("%s", oneLine(err))
		}
		return false
	})
}

// listens reports whether somebody listens on a port of this host. Who only looks does
// not start an etcd, in which nobody can be.
func listens(port int) bool {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), dialTimeout)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// take asks who is there.
func (l *looker) take() census {
	v := l.cluster.View()
	c := census{
		Time: time.Now().UTC().Format(timeForm), Mode: l.mode, Generation: v.State.Generation, Total: v.State.Total,
		Members: []there{}, Waiting: waiting(v.Blockers),
	}
	for _, p := range v.Members {
		if p.Index == 0 {
			c.Primary = p.ID
		}
		c.Members = append(c.Members, there{
			p.ID, p.Index, p.Workers, libcluster.PartitionRanges(p.Partitions()), p.Address, p.Version, p.Metadata,
		})
	}
	return c
}

// waiting returns for whom the cluster waits, as it is printed.
func waiting(blockers []libcluster.Blocker) []awaited {
	all := []awaited{}
	for _, b := range blockers {
		all = append(all, awaited{b.ID, b.Since.UTC().Format(timeForm)})
	}
	return all
}

// members returns who is there now, in order.
func (l *looker) members() (members []libcluster.Member) {
	for _, m := range l.take().Members {
		members = append(members, libcluster.Member{ID: m.ID, Workers: m.Workers})
	}
	return members
}

// watch prints what it comes to see after the first, until ctx ends: every
// generation, for whom the cluster waits, and whether every index is held.
func (l *looker) watch(ctx context.Context, first census, write func(census)) {
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	printed, blind, asked := first, false, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		why := l.cluster.Err()
		switch {
		case why != nil && !blind:
			l.t.say("cannot see the cluster now: %s", oneLine(why))
		case why == nil && blind:
			l.t.say("can see the cluster again")
		}
		blind = why != nil
		seen := l.take() // of which the generation does not always tell
		changed := !reflect.DeepEqual(seen.Members, printed.Members) || seen.Generation != printed.Generation ||
			!slices.Equal(seen.Waiting, printed.Waiting)
		if !changed && (blind || time.Since(asked) < askAgain) {
			continue
		}
		asked = time.Now()
		now := l.covered(ctx)
		if ctx.Err() == nil && (changed || !now.equal(printed.Coverage)) {
			printed = l.take()
			printed.Coverage = now
			write(printed)
		}
	}
}

const lookUsage = `Usage: cluster-test ls [OPTIONS]
       cluster-test watch [OPTIONS]

Shows the members of a cluster, each with the worker indexes that it holds, and
whether every index is held by exactly one instance that is there. Neither
command becomes a member. ls shows this once; watch shows it again whenever
something has changed, until SIGINT, SIGTERM or SIGHUP.

OPTIONS are those of cluster-test that say where the cluster is: -r, which is
required, -k, -e, -p, --ttl, --cacert, --cert, --cert-key, --user and
--password-file; --mode and --partitions, which are only needed while the cluster has no
members; and
  -h, --help                Print this message and exit
  -v, --verbose             Be more verbose: show the library's log
      --timeout DURATION    End with an error if the cluster could not be read
                            within DURATION (default: 10s). Once it has been
                            read, watch goes on through any outage
      --json                Print one line of JSON each time
`
