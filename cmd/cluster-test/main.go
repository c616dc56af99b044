// Command cluster-test joins a cluster and prints every assignment that it is given,
// until it is told to end. It does no work: it shows what an application that
// uses libcluster would be told. Run it with --help for its flags.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/operator"
	"github.com/libcluster/libcluster/internal/registryflag"
)

// Exit statuses. A signal is the way to end the program, so it ends it with 0;
// one that comes two seconds later kills it, and the shell makes 129, 130 or 143 of that.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// moved are the commands that were in this one.
var moved = []string{"ls", "watch", "simulate"}

func main() {
	// A reader that has gone shall be an error of Write, so that the cluster
	// is left before the program ends.
	signal.Ignore(syscall.SIGPIPE)
	ctx, end := context.WithCancel(context.Background())
	operator.EndBySignal(end)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program. It returns the exit status, after ctx has ended or when
// it cannot go on.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && slices.Contains(moved, args[0]) {
		fmt.Fprintf(stderr, "%s: %[2]s is a command of libcluster: run 'libcluster %[2]s --help'\n", program, args[0])
		return exitUsage
	}
	o, err := parse(ctx, args)
	if status, done := settled(err, usage, stdout); done {
		return status
	}
	// until ends when it is time to leave.
	until, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	t := newTranscript(&output{json: o.json, end: end})
	transcribed, events := newStream(t, stderr, "standard error"), newStream(t, stdout, "standard output")
	t.stderr, t.stdout = transcribed, events
	status := runInstances(ctx, until, o, err, t)
	transcribed.Flush()
	events.Flush()
	if t.broken.Load() && status == exitOK {
		return exitFailed
	}
	return status
}

// runInstances runs what the command line asks for, unless parsing it has failed with
// err, from now until the output's end is called, or ctx ends.
func runInstances(ctx, until context.Context, o options, err error, t transcript) int {
	var nodes []*node
	if err == nil {
		nodes, err = newNodes(o, t)
	}
	if err != nil {
		t.say("%s; try '%s --help'", oneLine(err), program)
		return exitUsage
	}

	// Said before any instance says that it leaves.
	unhook := context.AfterFunc(ctx, func() {
		t.say("signal received, will terminate")
		t.end()
	})
	defer unhook()
	if runAll(until, o, t, func() bool { return runNodes(until, t.end, nodes) }) {
		return exitFailed
	}
	return exitOK
}

// runAll runs the instances, with the embedded etcd or the database that they need. It
// reports whether anything has failed.
func runAll(until context.Context, o options, t transcript, instances func() bool) bool {
	level := zap.ErrorLevel // such as a take-over that fails
	if o.verbose {
		level = zap.InfoLevel
	}
	if what := o.registry.Needs(); what != "" {
		err := t.waitingFor(what, operator.Untold, func() error {
			return o.registry.Start(until, operator.NewLogger(level, t.stderr))
		})
		if err != nil {
			if until.Err() != nil {
				return false
			}
			t.say("%s", oneLine(err))
			return true
		}
	}
	failed := instances()
	// After the instances, which need it for leaving.
	if err := o.registry.Close(); err != nil {
		t.say("%s", oneLine(err))
		return true
	}
	return failed
}

// runNodes runs every instance until until ends, or end is called because one of
// them cannot join. It reports whether any has failed.
func runNodes(until context.Context, end func(), nodes []*node) bool {
	var failed atomic.Bool
	var group sync.WaitGroup
	for _, n := range nodes {
		group.Go(func() {
			if err := n.run(until); err != nil {
				n.t.say("%s", oneLine(err))
				failed.Store(true)
				if !errors.Is(err, errTaken) { // nobody else's matter
					end()
				}
			}
		})
	}
	group.Wait()
	return failed.Load()
}

// oneLine is the error's message for people.
func oneLine(err error) string { return registryflag.OneLine(err) }
