package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/libcluster/libcluster/internal/quote"
	"github.com/libcluster/libcluster/peers"
)

func newPeers(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "peers",
		Short: "Change who the peers are that keep a cluster among themselves",
		Long: `Changes who the peers are that keep a cluster among themselves (-r peers:FILE). A new peer
needs no command: it enters when it is started with a file that lists all the others.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", args[0])}
			}
			return nil
		},
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(newPeersRemove(f))
	return command
}

func newPeersRemove(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "remove ID",
		Short: "Remove a peer for good",
		Long: `Removes the peer ID for good, so that the majority is one of the others. It may run or be
lost. Its server ends, and refuses to start on its old data folder.

Take the peer out of the files of all others, too: with an empty data folder it enters again.

FILE is the file of any peer, or one for a client, without listen_port. From it come the
addresses of the peers, and the certificates. The command is a client of all the peers in it,
the one included that the file is for, and starts no server. A peer that is not in FILE any
more is removed by its address, HOST:PORT.

A peer is not removed if too few others run to go on without it. The others must have been
connected for 5 s, for which the command waits.

Exit status: 0 when the peer is removed, 1 when there is no such peer or it may not be
removed, 2 when the command line is wrong or the registry has no peers, 3 when no majority of
the peers answers.`,
		Example: `  libcluster peers remove -r peers:server_a.json server_c
  libcluster peers remove -r peers:server_a.json 10.0.0.3:7001`,
		Args: oneArgument("an ID"),
	}
	l := newLooking(f, command)
	command.RunE = func(command *cobra.Command, args []string) error { return l.removePeer(command, args[0]) }
	return command
}

func (l *looking) removePeer(command *cobra.Command, id string) (err error) {
	told := command.Context()
	ctx, cancel := context.WithTimeoutCause(told, l.timeout, l.tooLate())
	defer cancel()
	registry, err := l.openOnly(ctx, command)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	from, can := registry.Registry.(*peers.Peers)
	if !can {
		return usageError{fmt.Errorf("%v has no peers; give -r peers:FILE", registry)}
	}
	err = from.Remove(ctx, id)
	if late := context.Cause(ctx); err != nil && late != nil {
		err = fmt.Errorf("%w; last: %w", late, err)
	}
	switch {
	case err != nil && told.Err() != nil:
		return errTold
	case errors.Is(err, peers.ErrNoMajority):
		return unseen(err)
	case err != nil:
		return err
	}
	return write(command.OutOrStdout(), quote.Text(id)+" is removed\n")
}
