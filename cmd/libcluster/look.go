package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/operator"
	"github.com/libcluster/libcluster/internal/quote"
	"github.com/libcluster/libcluster/internal/registryflag"
)

// lookTimeout is the default of --timeout: time for an attempt to join and another one.
const lookTimeout = 10 * time.Second

// leaveTimeout bounds leaving: a registry that is gone must not keep the program alive.
const leaveTimeout = 10 * time.Second

// dialTimeout is what a connection on this host may take, at the very most.
const dialTimeout = 5 * time.Second

// looking are the flags of a command that looks at a cluster and does not join it.
type looking struct {
	*flags
	format     format
	details    bool // versions and metadata are shown in every format
	timeout    time.Duration
	mode       registryflag.Mode
	partitions registryflag.Number

	line registryflag.Line // these, which can also be given by the environment
}

// newLooking adds the flags to a command.
func newLooking(f *flags, command *cobra.Command) *looking {
	l := &looking{flags: f, format: formatTable, line: registryflag.Line{FlagSet: pflag.NewFlagSet(program, pflag.ContinueOnError)}}
	l.line.AddFlagSet(f.FlagSet)
	l.line.DurationVar(&l.timeout, "timeout", lookTimeout, "give up, with status 3, if the cluster could not be read within `DURATION`")
	command.Flags().AddFlagSet(l.line.FlagSet)
	return l
}

// newPrinting adds the flags to a command that prints what it has seen.
func newPrinting(f *flags, command *cobra.Command) *looking {
	l := newLooking(f, command)
	l.line.VarP(&l.format, "output", "o", "print a `FORMAT`: table, wide or json")
	command.Flags().AddFlagSet(l.line.FlagSet)
	suggest(command, "output", formats...)
	return l
}

// addModes adds the flags that say what cannot be seen of a cluster without members.
func (l *looking) addModes(command *cobra.Command) {
	l.line.Var(&l.mode, "mode", "the `MODE` of a cluster that has no members yet: direct, planned, exclusive or cooperative; others are asked")
	l.line.Var(&l.partitions, "partitions", "how many `PARTITIONS` such a cluster has in mode cooperative (default: 256)")
	command.Flags().AddFlagSet(l.line.FlagSet)
	suggest(command, "mode", modeNames...)
}

// check finds what is wrong with the flags.
func (l *looking) check() error {
	switch {
	case l.timeout <= 0:
		return fmt.Errorf("%s: must be positive", l.line.Shown("timeout"))
	case l.partitions < 0 || l.partitions > libcluster.MaxPartitions:
		return fmt.Errorf("%s: must be 1 to %d", l.line.Shown("partitions"), libcluster.MaxPartitions)
	}
	return nil
}

// looker sees a cluster through a passive instance.
type looker struct {
	*looking
	config   libcluster.Config
	registry *registryflag.Registry
	cluster  *libcluster.Cluster
	stdout   io.Writer
	stderr   zapcore.WriteSyncer // the log's too
}

// errTold: the program was told to end before it could do what it was asked to.
var errTold = statusError{errors.New("told to end before the cluster was seen"), exitUnseen}

// tooLate is the error when the time for looking has passed.
func (l *looking) tooLate() error { return fmt.Errorf("not seen within %v; see --timeout", l.timeout) }

func unseen(err error) error {
	return statusError{fmt.Errorf("cannot see the cluster: %w", err), exitUnseen}
}

func errNoEmbedded(port int) error {
	return fmt.Errorf("no etcd runs at 127.0.0.1:%d, and with it no cluster; start an instance with the same -r/--registry first", port)
}

// look has something done while the cluster can be seen. It ends with the time for that.
func (l *looking) look(command *cobra.Command, do func(ctx context.Context, x *looker) error) error {
	keepFromDefault(syscall.SIGPIPE)
	x := &looker{
		looking: l,
		stdout:  command.OutOrStdout(), stderr: zapcore.Lock(zapcore.AddSync(command.ErrOrStderr())),
	}
	told := command.Context()
	ctx, cancel := context.WithTimeoutCause(told, l.timeout, l.tooLate())
	defer cancel()
	err := x.open(ctx, command)
	if err == nil {
		err = errors.Join(x.whileSeen(ctx, do), x.registry.Close()) // after the instance, which needs it for leaving
	}
	if err != nil && told.Err() != nil {
		return errTold
	}
	return err
}

// open has not looked yet. Its errors are those of the command line.
func (x *looker) open(ctx context.Context, command *cobra.Command) (err error) {
	if err = x.complete(command, x.line); err == nil {
		err = x.check()
	}
	log := zap.NewNop()
	if x.verbose {
		log = operator.NewLogger(zap.DebugLevel, x.stderr)
	}
	if err == nil {
		x.registry, x.config, err = x.flags.open(ctx, registryflag.Use{Looks: true}, log)
	}
	if err == nil {
		x.config.Passive, x.config.Mode = true, libcluster.Mode(x.mode)
		if x.config.Mode == libcluster.ModeCooperative { // each command of exec has LIBCLUSTER_PARTITIONS in any mode
			x.config.Partitions = int(x.partitions)
		}
		x.config.WatchMembers = x.details || x.format != formatTable // a table has no need of what changes with no plan
		err = x.prepare()
	}
	if err != nil {
		return usageError{err}
	}
	return nil
}

func (x *looker) prepare() (err error) {
	x.cluster, err = x.newCluster(x.config, x.line)
	return err
}

// whileSeen joins, has something done, and leaves.
func (x *looker) whileSeen(ctx context.Context, do func(ctx context.Context, x *looker) error) error {
	if err := x.begin(ctx); err != nil {
		return unseen(err)
	}
	err := do(ctx, x)
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := x.cluster.Leave(leaving); err != nil {
		x.say("%s", registryflag.OneLine(err))
	}
	return err
}

// begin opens what has to run for the registry, and joins. Who only looks makes no registry,
// in which nobody can be.
func (x *looker) begin(ctx context.Context) error {
	if e := x.registry.Embedded; e != nil && !listens(e.Port) {
		return errNoEmbedded(e.Port)
	}
	if err := x.registry.Exists(); err != nil {
		return err
	}
	level := zap.ErrorLevel // such as a take-over of the embedded etcd that fails
	if x.verbose {
		level = zap.InfoLevel
	}
	return operator.WaitingFor(x.say, x.registry.String(), operator.Untold, func() error {
		if err := x.registry.Start(ctx, operator.NewLogger(level, x.stderr)); err != nil {
			return err
		}
		return x.join(ctx)
	})
}

// join joins in the mode and with the partitions that the cluster has, which are only found out
// by joining, unless they are given.
func (x *looker) join(ctx context.Context) error {
	err := x.cluster.Join(ctx)
	var other *libcluster.ModeError
	if !errors.As(err, &other) {
		return err
	}
	if x.config.Mode != libcluster.ModeDirect && (x.config.Mode != other.Cluster || x.config.Partitions != 0) {
		return err // as it was given
	}
	x.config.Mode, x.config.Partitions = other.Cluster, other.ClusterPartitions
	if err := x.prepare(); err != nil {
		return err
	}
	return x.cluster.Join(ctx)
}

// listens reports whether somebody listens on a port of this host.
func listens(port int) bool {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), dialTimeout)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// say writes a line for people. What others wrote is quoted.
func (x *looker) say(format string, args ...any) {
	_, _ = io.WriteString(x.stderr, program+": "+quote.Text(fmt.Sprintf(format, args...))+"\n") // nobody else could be told
}

// write writes to standard output.
func (x *looker) write(text string) error { return write(x.stdout, text) }
