package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newTables(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "tables",
		Short: "Print the statements that make the tables in a database",
		Long: `Prints the statements that make the tables of a registry in a database, for an administrator. Instances
whose user may make tables make them on first use. All users need the permissions to select,
insert, update and delete in them. The database is not asked for anything.`,
		Example: `  libcluster tables -r postgres://db.example.com/mailer | psql mailer`,
		Args:    noArguments,
	}
	l := newLooking(f, command)
	command.RunE = l.tables
	return command
}

func (l *looking) tables(command *cobra.Command, _ []string) (err error) {
	registry, err := l.openOnly(context.Background(), command)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	if registry.Tables == "" {
		return usageError{fmt.Errorf("%v: is in no database, and has no tables", registry)}
	}
	return write(command.OutOrStdout(), registry.Tables)
}
