package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/quote"
)

func newDrain(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "drain ID",
		Short: "Have a member give its assignment away",
		Long: `Has the member ID give its assignment away, until libcluster undrain, and returns when it
holds nothing any more. In a mode with a plan it stays a member, and if all members drain it
is as if none did. In mode direct it leaves the cluster, and joins again once it is undrained.
In mode cooperative each of its partitions moves as soon as its work has stopped.

What is asked for outlives the instance: it is drained when it is started again, too. If the
time of --timeout has passed, it is asked for nevertheless. Without a member ID nothing is.

Exit status: 0 when the member holds nothing, 1 when it still holds something after --timeout
or there is no such member, 2 when the command line is wrong or the registry cannot have it
noted, as where instances gossip, 3 when the cluster could not be seen.`,
		Example: `  libcluster drain -k mailer -r http://etcd:2379 node2 && ssh node2 reboot`,
		Args:    oneMember,
	}
	l := newLooking(f, command)
	command.RunE = func(command *cobra.Command, args []string) error {
		return l.look(command, noted(func(ctx context.Context, x *looker) error { return x.drain(ctx, args[0]) }))
	}
	return command
}

func newUndrain(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "undrain ID",
		Short: "Let a member that was drained have an assignment again",
		Long: `Takes back what libcluster drain has asked for, so that the member ID may have an assignment
again. It returns when the registry has it, and does not wait for the assignment.

Exit status: 0 when it is not drained, and so if it was not before, 1 when it drains by its own
wish (Cluster.SetDraining), 2 when the command line is wrong or the registry cannot have it
noted, as where instances gossip, 3 when the cluster could not be seen.`,
		Example: `  libcluster undrain -k mailer -r http://etcd:2379 node2`,
		Args:    oneMember,
	}
	l := newLooking(f, command)
	command.RunE = func(command *cobra.Command, args []string) error {
		return l.look(command, noted(func(ctx context.Context, x *looker) error { return x.undrain(ctx, args[0]) }))
	}
	return command
}

// oneMember wants one argument, which can be a member's ID.
func oneMember(command *cobra.Command, args []string) error {
	if err := oneArgument("an ID")(command, args); err != nil {
		return err
	}
	if _, err := libcluster.ParseMember(args[0], []byte("1")); err != nil {
		return usageError{err}
	}
	return nil
}

// noted has something asked for, if the registry can have it noted.
func noted(ask func(context.Context, *looker) error) func(context.Context, *looker) error {
	return func(ctx context.Context, x *looker) error {
		if !x.registry.Capabilities().Plans {
			return usageError{fmt.Errorf("%v: keeps nothing that operators ask for, so no member can be drained here; end it instead", x.registry)}
		}
		return ask(ctx, x)
	}
}

// lookForDrained is how often drain looks whether the member holds something.
const lookForDrained = 100 * time.Millisecond

// drain asks for it, and waits until the member holds nothing.
func (x *looker) drain(ctx context.Context, id string) error {
	found, err := x.cluster.Coverage(ctx)
	if err != nil {
		return unseen(err)
	}
	if !mentions(found, id) {
		return fmt.Errorf("no member %q; see libcluster ls", id)
	}
	if err := x.cluster.Drain(ctx, id); err != nil {
		return unasked(err)
	}
	for holds(found, id) || !isDraining(found, id) {
		select {
		case <-time.After(lookForDrained):
		case <-ctx.Done():
			return stillHolds(found, id)
		}
		if now, err := x.cluster.Coverage(ctx); err == nil { // or the time will tell
			found = now
		}
	}
	return x.write(quote.Text(id) + " is drained\n")
}

// mentions reports whether an instance is a member, as far as the coverage tells.
func mentions(found libcluster.Coverage, id string) bool {
	return holds(found, id) || slices.ContainsFunc(found.Problems, func(p libcluster.CoverageProblem) bool { return p.ID == id })
}

// holds reports whether an instance may still act.
func holds(found libcluster.Coverage, id string) bool {
	return slices.ContainsFunc(found.Assignments, func(p libcluster.Assignment) bool { return p.ID == id }) ||
		slices.ContainsFunc(found.Blockers, func(b libcluster.Blocker) bool { return b.ID == id })
}

// stillHolds is the error when the time has passed.
func stillHolds(found libcluster.Coverage, id string) error {
	if !slices.ContainsFunc(found.Assignments, func(p libcluster.Assignment) bool { return !isDraining(found, p.ID) }) {
		return fmt.Errorf("%q still holds an assignment, since all members drain, and so it is as if none did", id)
	}
	return fmt.Errorf("it is asked for that %q drains, and it still holds an assignment; see libcluster ls", id)
}

func isDraining(found libcluster.Coverage, id string) bool {
	return slices.ContainsFunc(found.Problems, func(p libcluster.CoverageProblem) bool {
		return p.Kind == libcluster.ProblemDraining && p.ID == id
	})
}

// undrain takes that back.
func (x *looker) undrain(ctx context.Context, id string) error {
	if err := x.cluster.Undrain(ctx, id); err != nil {
		return unasked(err)
	}
	found, err := x.cluster.Coverage(ctx)
	switch {
	case err != nil:
		return unseen(err)
	case isDraining(found, id):
		return fmt.Errorf("nobody asks any more that %q drains, and it drains by its own wish", id)
	}
	return x.write(quote.Text(id) + " is not drained\n")
}

func unasked(err error) error {
	return statusError{fmt.Errorf("cannot ask for it: %w", err), exitUnseen}
}
