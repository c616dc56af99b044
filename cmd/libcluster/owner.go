package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/libcluster/libcluster"
)

// owned is a key and who owns it, and a line of -o json.
type owned struct {
	Key        string          `json:"key"`
	Mode       libcluster.Mode `json:"mode"`
	Generation int64           `json:"generation"`
	Slot       int             `json:"slot"` // the worker index, or the partition
	Total      int             `json:"total"`
	Owner      there           `json:"owner"`
}

func newOwner(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "owner KEY",
		Short: "Show which member owns a key",
		Long: `Shows which member owns KEY, as State.Owns and Cluster.OwnerOf have it: that member's worker
index, or in mode cooperative the partition, is Slot(KEY, total). "42" and 42 are one key.

Exit status: 0 when a member owns it, 1 when none does, 2 when the command line is wrong, 3
when the cluster could not be seen.`,
		Example: `  libcluster owner -k mailer -r http://etcd:2379 account-42
  libcluster owner -k mailer -r http://etcd:2379 account-42 -o json | jq -r .owner.address`,
		Args: oneArgument("a KEY"),
	}
	l := newPrinting(f, command)
	command.RunE = func(command *cobra.Command, args []string) error {
		return l.look(command, func(_ context.Context, x *looker) error { return x.owner(args[0]) })
	}
	return command
}

// oneArgument wants one argument, which is not empty. Its name is given with an article.
func oneArgument(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 || args[0] == "":
			return usageError{fmt.Errorf("needs %s", name)}
		case len(args) > 1:
			return usageError{fmt.Errorf("unexpected argument %q", args[1])}
		}
		return nil
	}
}

// owner prints who owns a key.
func (x *looker) owner(key string) error {
	v := x.cluster.View()
	if len(v.Members) == 0 {
		return errors.New("the cluster has no members")
	}
	slot := libcluster.Slot(key, v.State.Total)
	i := slices.IndexFunc(v.Members, func(p libcluster.Assignment) bool { return p.Holds(slot) })
	if i < 0 {
		return fmt.Errorf("no member owns %q now; see libcluster check", key)
	}
	o := owned{key, x.config.Mode, v.State.Generation, slot, v.State.Total, thereOf(v.Members[i])}
	if x.format == formatJSON {
		return x.write(line(o))
	}
	t := newTable([]owned{o}, "owner", func(o owned) string { return o.Owner.ID })
	t.addUnlessEmpty("address", func(o owned) string { return o.Owner.Address })
	if x.format == formatWide {
		t.addUnlessEmpty("version", func(o owned) string { return o.Owner.Version })
		t.addUnlessEmpty("metadata", func(o owned) string { return o.Owner.metadata() })
	}
	t.numbers()
	number := "index"
	if o.Mode == libcluster.ModeCooperative {
		number = "partition"
	}
	t.add(number, func(o owned) string { return strconv.Itoa(o.Slot) })
	t.add("of", func(o owned) string { return strconv.Itoa(o.Total) })
	var b strings.Builder
	align(&b, t.rows, t.text)
	return x.write(b.String())
}
