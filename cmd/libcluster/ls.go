package main

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/operator"
	"github.com/libcluster/libcluster/internal/registryflag"
)

// settle is how long watch waits after a change for others that come with it.
const settle = 100 * time.Millisecond

// askAgain is how often it asks the registry whether every index is held.
const askAgain = time.Second

func newLs(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "Show the members of a cluster, and whether every index is held",
		Long: `Shows the members of a cluster, each with the worker indexes that it holds, or in mode
cooperative the partitions, and whether each of these is held by exactly one instance that
is there. It does not become a member.

-o wide adds the members' addresses, versions and metadata, as far as any member has them.
-o json is one line of JSON with all of it.

Exit status: 0 when the cluster was seen, whatever its members hold (see libcluster check),
2 when the command line is wrong, 3 when the cluster could not be seen.`,
		Example: `  libcluster ls -k mailer -r http://etcd:2379
  libcluster ls -k mailer -r sqlite:/tmp/c.db -o json | jq -r .primary`,
		Args: noArguments,
	}
	l := newPrinting(f, command)
	l.addModes(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		return l.look(command, func(ctx context.Context, x *looker) error { return x.write(x.format.census(x.see(ctx))) })
	}
	return command
}

func newWatch(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "watch",
		Short: "Show what ls shows, again whenever something has changed",
		Long: `Shows what libcluster ls shows, and again whenever something has changed, until SIGINT,
SIGTERM or SIGHUP. Once it has seen the cluster it goes on through any outage. -o json is
one line of JSON each time.

Exit status: 0 after a signal, 1 when the output cannot be written, 2 when the command line
is wrong, 3 when the cluster could not be seen.`,
		Example: `  libcluster watch -k mailer -r http://etcd:2379
  libcluster watch -k mailer -r http://etcd:2379 -o json | jq -c '[.time, .total, .coverage.covered]'`,
		Args: noArguments,
	}
	l := newPrinting(f, command)
	l.addModes(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		err := l.look(command, func(ctx context.Context, x *looker) error { return x.watch(command.Context(), x.see(ctx)) })
		if command.Context().Err() != nil {
			return nil // a signal is the way to end it
		}
		return err
	}
	return command
}

// see asks who is there, and whether every index is held.
func (x *looker) see(ctx context.Context) census {
	c := x.take()
	c.Coverage = x.covered(ctx)
	return c
}

// take asks who is there.
func (x *looker) take() census {
	v := x.cluster.View()
	c := census{
		Time: time.Now().UTC().Format(operator.TimeForm), Mode: x.config.Mode, Generation: v.State.Generation, Total: v.State.Total,
		Members: []there{}, Waiting: waiting(v.Blockers),
	}
	for _, p := range v.Members {
		if p.Index == 0 {
			c.Primary = p.ID
		}
		c.Members = append(c.Members, thereOf(p))
	}
	return c
}

// thereOf returns an assignment as it is printed.
func thereOf(p libcluster.Assignment) there {
	return there{p.ID, p.Index, p.Workers, libcluster.PartitionRanges(p.Partitions()), p.Address, p.Version, p.Metadata}
}

// waiting returns for whom the cluster waits, as it is printed.
func waiting(blockers []libcluster.Blocker) []awaited {
	all := []awaited{}
	for _, b := range blockers {
		all = append(all, awaited{b.ID, b.Since.UTC().Format(operator.TimeForm)})
	}
	return all
}

// watch prints what it sees, and what it comes to see after that until ctx ends: every
// generation, for whom the cluster waits, and whether every index is held.
func (x *looker) watch(ctx context.Context, first census) error {
	printed, blind, asked := first, false, time.Now()
	if err := x.write(x.format.news(first)); err != nil {
		return err
	}
	for news := x.cluster.Changed(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-news:
			time.Sleep(settle)
		case <-time.After(askAgain):
		}
		news = x.cluster.Changed() // of what changes while it looks
		why := x.cluster.Err()
		switch {
		case why != nil && !blind:
			x.say("cannot see the cluster now: %s", registryflag.OneLine(why))
		case why == nil && blind:
			x.say("can see the cluster again")
		}
		blind = why != nil
		seen := x.take() // of which the generation does not always tell
		changed := !reflect.DeepEqual(seen.Members, printed.Members) || seen.Generation != printed.Generation ||
			!slices.Equal(seen.Waiting, printed.Waiting)
		if !changed && (blind || time.Since(asked) < askAgain) {
			continue
		}
		asked = time.Now()
		now := x.covered(ctx)
		if ctx.Err() == nil && (changed || !now.equal(printed.Coverage)) {
			printed = x.take()
			printed.Coverage = now
			if err := x.write(x.format.news(printed)); err != nil {
				return err
			}
		}
	}
}
