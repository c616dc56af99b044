package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newCheck(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "check",
		Short: "Tell by the exit status whether every index is held",
		Long: `Tells whether each worker index, or in mode cooperative each partition, is held by exactly
one instance that is there, and if not what is wrong. It is for monitoring.

Exit status: 0 when all are held, 1 when not, and so of a cluster without members, 2 when
the command line is wrong, 3 when the cluster could not be seen.`,
		Example: `  libcluster check -k mailer -r http://etcd:2379 --timeout 5s || page-somebody`,
		Args:    noArguments,
	}
	l := newPrinting(f, command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		return l.look(command, func(ctx context.Context, x *looker) error { return x.checkCovered(ctx) })
	}
	return command
}

var errNotCovered = errors.New("the cluster is not covered")

func (x *looker) checkCovered(ctx context.Context) error {
	c := x.covered(ctx)
	if c.Failed != "" {
		return statusError{fmt.Errorf("cannot tell whether every index is held: %s", c.Failed), exitUnseen}
	}
	text := c.text(x.config.Mode)
	if x.format == formatJSON {
		text = line(c)
	}
	if err := x.write(text); err != nil {
		return err
	}
	if !c.Covered {
		return errNotCovered
	}
	return nil
}
