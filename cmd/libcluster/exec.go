//go:build unix

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/operator"
	"github.com/libcluster/libcluster/internal/registryflag"
)

// The waits of --restart: the first, and the longest.
const (
	leastRestart = time.Second
	mostRestart  = time.Minute
)

// execution is the command exec.
type execution struct {
	*flags
	instanceFlags

	workers              registryflag.Number
	perInstance, primary bool
	signal               signalFlag
	grace, timeout       time.Duration
	restart, prefix      bool

	path   string   // of the command
	args   []string // with its name
	stdout io.Writer
	stderr io.Writer
	guards guards
}

func newExec(f *flags) *cobra.Command {
	x := &execution{flags: f, workers: 1, signal: signalFlag(syscall.SIGTERM)}
	command := &cobra.Command{
		Use:   "exec [flags] -- COMMAND...",
		Short: "Run a command as a worker of the cluster",
		Long: `Joins the cluster, and runs COMMAND once for each worker of this instance. COMMAND
finds its place in the environment:

  LIBCLUSTER_INDEX       its first worker index, from 0
  LIBCLUSTER_WORKERS     how many indexes it has: 1, or with --per-instance all of this instance
  LIBCLUSTER_TOTAL       how many indexes the cluster has
  LIBCLUSTER_GENERATION  the number of this assignment, which only grows; in mode exclusive
                         it is a fencing token

In mode cooperative it runs once for each partition that this instance holds, and finds:

  LIBCLUSTER_PARTITION   the number of its partition, from 0
  LIBCLUSTER_PARTITIONS  how many there are
  LIBCLUSTER_GENERATION  the partition's fencing token, which grows with each hand-over

When a partition moves, only its own COMMAND is ended. The rest of the environment is that
of this program, without LIBCLUSTER_PASSWORD, LIBCLUSTER_SECRET, LIBCLUSTER_TOKEN,
LIBCLUSTER_USER, LIBCLUSTER_REGISTRY, ETCDCTL_USER and ETCDCTL_PASSWORD.

When the assignment changes or is lost, the process group of COMMAND gets SIGTERM. What is
still there after the grace period gets SIGKILL, with all descendants. When all are gone
COMMAND runs again with its new place. If this instance cannot renew its record in time,
SIGKILL comes at that deadline, without a grace period: after it another instance may
start. That holds also when this program is stopped or killed, but not for a COMMAND, or
what it starts, that becomes another user, as sudo and other setuid programs do: only root
can kill that. It holds if this program runs as root.

When a COMMAND ends with status 0 its work is done, and when all have, this program ends
(but not in mode cooperative, where the work of that partition is done until it moves).
When one fails, the others are ended, and the program ends with its status; --restart runs
it again instead. COMMAND reads from /dev/null. SIGUSR1 and SIGUSR2 are passed on to it.

SIGTERM, SIGINT or SIGHUP ends the commands, leaves the cluster and ends the program. A
signal that comes two seconds later ends all of this at once.

As long as the registry cannot be reached this program waits for it; with --timeout it waits
that long to join, and no longer. Once it has joined it goes on through any outage.

Exit status: 0 after a signal or when all work is done; that of COMMAND if it fails, or
128 and its signal; 1 when the instance cannot join or its ID was taken over; 2 when the
command line is wrong; 3 when it has not joined within --timeout; 126 or 127 when COMMAND
cannot be run or found.`,
		Example: `  libcluster exec -k mailer -r sqlite:/tmp/c.db -n 2 -- sh -c 'echo $LIBCLUSTER_INDEX of $LIBCLUSTER_TOTAL; sleep 60'
  libcluster exec -k mailer -r http://etcd:2379 --mode exclusive --primary --restart -- ./nightly.py`,
		RunE: func(command *cobra.Command, args []string) error { return x.run(command, args) },
	}
	set := command.Flags()
	set.SetInterspersed(false) // the rest is the command's
	x.add(set)
	suggest(command, "mode", modeNames...)
	set.VarP(&x.workers, "workers", "n", "run `COUNT` workers in this instance")
	set.BoolVar(&x.perInstance, "per-instance", false, "run COMMAND once, for all workers of this instance")
	set.BoolVar(&x.primary, "primary", false, "run COMMAND once, and only on the instance that has index 0")
	set.Var(&x.signal, "signal", "end COMMAND with this `SIGNAL`")
	set.DurationVar(&x.grace, "grace", 10*time.Second, "how long COMMAND may take to end before SIGKILL")
	set.DurationVar(&x.timeout, "timeout", 0, "give up, with status 3, if the cluster could not be joined within `DURATION` (default: wait for ever)")
	set.BoolVar(&x.restart, "restart", false, "run a COMMAND that fails again, after 1s to 1m")
	set.BoolVar(&x.prefix, "prefix", false, "begin each line of output with the worker that wrote it")
	return command
}

// check finds what is wrong with the flags, and which do not go together.
func (x *execution) check(all registryflag.Line) error {
	cooperative := libcluster.Mode(x.mode) == libcluster.ModeCooperative
	switch {
	case all.Given("ttl") && x.ttl <= 0: // to the library 0 is the default
		return fmt.Errorf("%s: must be positive", all.Shown("ttl"))
	case cooperative && x.partitions < 1:
		return fmt.Errorf("%s: needs --partitions, 1 to %d, the same for all instances", all.Shown("mode"), libcluster.MaxPartitions)
	case x.workers < 1 || x.workers > libcluster.MaxWorkers:
		return fmt.Errorf("%s: must be 1 to %d", all.Shown("workers"), libcluster.MaxWorkers)
	case x.grace < 0:
		return fmt.Errorf("%s: must not be negative", all.Shown("grace"))
	case x.timeout < 0:
		return fmt.Errorf("%s: must not be negative", all.Shown("timeout"))
	case x.perInstance && cooperative:
		return fmt.Errorf("%s: contradicts %s, in which COMMAND runs once for each partition", all.Shown("per-instance"), all.Shown("mode"))
	case x.primary && x.perInstance:
		return fmt.Errorf("%s: contradicts %s; give one of both", all.Shown("primary"), all.Shown("per-instance"))
	}
	return nil
}

func (x *execution) run(command *cobra.Command, args []string) (err error) {
	all := registryflag.Line{FlagSet: command.Flags()}
	if err = x.complete(command, all); err == nil {
		err = x.check(all)
	}
	if err != nil {
		return usageError{err}
	}
	if len(args) == 0 {
		return usageError{errors.New("needs a COMMAND to run, after --")}
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return cannotRun(err)
	}
	x.path, x.args = path, args
	keepFromDefault(syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)

	stderr := operator.NewStream(command.ErrOrStderr(), func(error) {}, func(int) {}) // nobody is there to be told
	defer stderr.Flush()
	x.stdout, x.stderr = command.OutOrStdout(), command.ErrOrStderr()
	level := zap.WarnLevel
	if x.verbose {
		level = zap.DebugLevel
	}
	ctx, log := command.Context(), operator.NewLogger(level, stderr)
	registry, config, err := x.open(ctx, registryflag.Use{Instances: 1}, log)
	if err != nil {
		return usageError{err}
	}
	defer func() { err = errors.Join(err, registry.Close()) }() // after the instance, which needs it for leaving
	if config.ID = cmp.Or(x.id, registry.ID); config.ID == "" {
		if config.ID, err = os.Hostname(); err != nil {
			return fmt.Errorf("the host has no name, which is the default of --id: %w; give --id", err)
		}
	}
	config.Workers, config.TTL = int(x.workers), x.ttl
	config.Mode, config.Partitions = libcluster.Mode(x.mode), int(x.partitions)
	config.DrainTimeout = libcluster.DefaultDrainTimeout + x.grace
	cluster, err := x.newCluster(config, all)
	if err != nil {
		return usageError{err}
	}
	if err := x.guards.prepare(log); err != nil {
		return err
	}
	err = x.inTime(ctx, cluster, func(ctx context.Context) error {
		if err := registry.Start(ctx, log); err != nil {
			return err
		}
		return x.work(ctx, cluster)
	})
	if ctx.Err() != nil {
		err = nil // told to end
	}
	if errors.Is(err, libcluster.ErrInstanceTaken) {
		err = fmt.Errorf("another instance has taken over the ID %q: give each instance its own with --id", config.ID)
	}
	return err
}

// inTime has something done that joins the cluster, and ends it if it has not within --timeout.
func (x *execution) inTime(ctx context.Context, cluster *libcluster.Cluster, do func(context.Context) error) error {
	if x.timeout == 0 {
		return do(ctx)
	}
	late := fmt.Errorf("not joined within %v; see --timeout", x.timeout)
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	timer := time.AfterFunc(x.timeout, func() {
		if phase := cluster.Phase(); phase == libcluster.PhaseLeft || phase == libcluster.PhaseJoining {
			end(late)
		}
	})
	defer timer.Stop()
	err := do(ctx)
	if err == nil || context.Cause(ctx) != late {
		return err
	}
	if !errors.Is(err, late) {
		err = fmt.Errorf("%w; last: %w", late, err)
	}
	// Without the context's end in it, which would say that the program was told to end.
	return statusError{fmt.Errorf("cannot join the cluster: %s", registryflag.OneLine(err)), exitUnseen}
}

// cannotRun says why the command cannot be run, with the exit status that a shell has for it.
func cannotRun(err error) error {
	status := exitCannotRun
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		status = exitNotFound
	}
	return statusError{fmt.Errorf("cannot run COMMAND: %w", err), status}
}

// work runs the command as the flags say, until ctx ends or the work is done.
func (x *execution) work(ctx context.Context, cluster *libcluster.Cluster) error {
	var options []libcluster.RunOption
	if x.restart {
		options = append(options, libcluster.Restart(leastRestart, mostRestart))
	}
	switch {
	case x.primary:
		return cluster.RunPrimary(ctx, func(ctx context.Context, s libcluster.State) error {
			return x.command(ctx, "primary", place(s, s.Index, s.Workers))
		}, options...)
	case cluster.Mode() == libcluster.ModeCooperative:
		return cluster.RunPartitions(ctx, func(ctx context.Context, p libcluster.Partition) error {
			return x.command(ctx, fmt.Sprint("partition ", p.Number), environment(
				"PARTITION", p.Number, "PARTITIONS", p.Of, "GENERATION", p.Token))
		}, options...)
	case x.perInstance:
		return cluster.Run(ctx, func(ctx context.Context, s libcluster.State) error {
			return x.command(ctx, "instance "+cluster.ID(), place(s, s.Index, s.Workers))
		}, options...)
	}
	return cluster.RunWorkers(ctx, func(ctx context.Context, worker int, s libcluster.State) error {
		return x.command(ctx, fmt.Sprint("worker ", worker), place(s, worker, 1))
	}, options...)
}

// place is what a command finds in its environment that has some indexes.
func place(s libcluster.State, index, workers int) []string {
	return environment("INDEX", index, "WORKERS", workers, "TOTAL", s.Total, "GENERATION", s.Generation)
}

// environment is that of this program, less what may hold a password, and with variables more:
// each is a name and a value.
func environment(more ...any) (env []string) {
	for _, pair := range os.Environ() {
		switch name, _, _ := strings.Cut(pair, "="); name {
		case "LIBCLUSTER_PASSWORD", "LIBCLUSTER_SECRET", tokenEnv, "LIBCLUSTER_USER", "LIBCLUSTER_REGISTRY",
			"ETCDCTL_USER", "ETCDCTL_PASSWORD":
		default:
			env = append(env, pair)
		}
	}
	for pair := range slices.Chunk(more, 2) {
		env = append(env, fmt.Sprintf("LIBCLUSTER_%v=%v", pair[0], pair[1]))
	}
	return env
}
