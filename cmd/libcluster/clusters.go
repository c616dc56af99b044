package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/registryflag"
	"github.com/libcluster/libcluster/kv"
)

// named is a cluster, and a line of -o json.
type named struct {
	Key       string          `json:"key"`
	Partition string          `json:"partition_name,omitempty"`
	Env       string          `json:"env"`
	Mode      libcluster.Mode `json:"mode"`
}

func newClusters(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "clusters",
		Short: "Show which clusters with members are in a registry",
		Long: `Shows the clusters in a registry that have members. -k, -e and -p show fewer. In an etcd
the user need not, with -k, be allowed to read more than what is below /KEY/. Where instances
gossip nobody knows of other clusters than its own.

Exit status: 0 when the clusters were seen, also if there are none, 2 when the command line
is wrong or the registry cannot tell, 3 when the registry could not be read.`,
		Example: `  libcluster clusters -r http://etcd:2379
  libcluster clusters -r sqlite:/tmp/c.db`,
		Args: noArguments,
	}
	l := newPrinting(f, command)
	command.RunE = l.clusters
	return command
}

func (l *looking) clusters(command *cobra.Command, _ []string) error {
	told := command.Context()
	ctx, cancel := context.WithTimeoutCause(told, l.timeout, l.tooLate())
	defer cancel()
	found, err := l.list(ctx, command)
	switch {
	case err != nil && told.Err() != nil:
		return errTold
	case err != nil:
		return err
	}
	var b strings.Builder
	if l.format == formatJSON {
		for _, c := range found {
			b.WriteString(line(c))
		}
		return write(command.OutOrStdout(), b.String())
	}
	if len(found) == 0 {
		return write(command.OutOrStdout(), "no clusters with members\n")
	}
	t := newTable(found, "key", func(c named) string { return c.Key })
	t.addUnlessEmpty("partition name", func(c named) string { return c.Partition })
	t.add("env", func(c named) string { return c.Env })
	t.add("mode", func(c named) string { return c.Mode.String() })
	t.numbers()
	align(&b, t.rows, t.text)
	return write(command.OutOrStdout(), b.String())
}

// openOnly opens the registry, of which no cluster is looked at. Its errors are those of the command
// line.
func (l *looking) openOnly(ctx context.Context, command *cobra.Command) (registry *registryflag.Registry, err error) {
	if err = l.complete(command, l.line); err == nil {
		err = l.check()
	}
	if err == nil && !l.Given("registry") {
		err = errNoRegistry
	}
	if err == nil {
		registry, err = l.Open(ctx, registryflag.Use{Looks: true, Verbose: l.verbose})
	}
	if err != nil {
		return nil, usageError{err}
	}
	return registry, nil
}

// list asks the registry.
func (l *looking) list(ctx context.Context, command *cobra.Command) (found []named, err error) {
	registry, err := l.openOnly(ctx, command)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	if e := registry.Embedded; e != nil && !listens(e.Port) {
		return nil, unseen(errNoEmbedded(e.Port))
	}
	if err := registry.Exists(); err != nil {
		return nil, unseen(err)
	}
	if err := registry.Start(ctx, zap.NewNop()); err != nil {
		return nil, unseen(err)
	}
	all, err := libcluster.Clusters(ctx, registry.Registry, l.key)
	if errors.Is(err, kv.ErrNoList) {
		return nil, usageError{fmt.Errorf("%v: cannot tell which clusters there are; to see one, name it: libcluster ls -k KEY", registry)}
	}
	if late := context.Cause(ctx); err != nil && late != nil {
		err = fmt.Errorf("%w; last: %w", late, err)
	}
	if err != nil {
		return nil, unseen(err)
	}
	for _, c := range all {
		if (!l.Given("env") || c.Env == l.env) && (!l.Given("partition-name") || c.Partition == l.partition) {
			found = append(found, named{c.Key, c.Partition, c.Env, c.Mode})
		}
	}
	return found, nil
}
