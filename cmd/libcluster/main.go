// Command libcluster is the operator's command: it shows clusters, and runs programs in any
// language as their workers. Run it with --help for its commands and flags.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/libcluster/libcluster/internal/operator"
	"github.com/libcluster/libcluster/internal/quote"
	"github.com/libcluster/libcluster/internal/registryflag"
)

const program = "libcluster"

// Exit statuses of the program itself. libcluster exec passes on its command's.
const (
	exitFailed    = 1
	exitUsage     = 2
	exitUnseen    = 3   // the cluster could not be seen
	exitCannotRun = 126 // as of a shell
	exitNotFound  = 127
)

func main() {
	if os.Args[0] == guardName {
		os.Exit(guardMain())
	}
	ctx, end := context.WithCancel(context.Background())
	operator.EndBySignal(end)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// statusError is an error with an exit status of its own.
type statusError struct {
	error
	status int
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run is the program, which ctx tells to end. It returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil || errors.Is(err, context.Canceled) { // such as while the password was asked for
		return 0
	}
	text := program + ": " + quote.Text(registryflag.OneLine(suggestion(err)))
	var usage usageError
	if errors.As(err, &usage) || command == root { // or cobra knows no such command
		fmt.Fprintf(stderr, "%s; try '%s --help'\n", text, command.CommandPath())
		return exitUsage
	}
	fmt.Fprintln(stderr, text)
	var own statusError
	if errors.As(err, &own) {
		return own.status
	}
	return exitFailed
}

// suggestion puts into one line what cobra says of a command that it does not know.
func suggestion(err error) error {
	text, names, found := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
	if !found {
		return err
	}
	return fmt.Errorf("%s; did you mean %s?", text, strings.Join(strings.Fields(names), " or "))
}

// keepFromDefault has signals not end this process. They have their usual effect in what it
// starts, unless they were ignored before: then they are in both.
func keepFromDefault(signals ...os.Signal) {
	for _, s := range signals {
		if !signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// noArguments refuses arguments.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           program,
		Short:         "See clusters, and run programs as their workers",
		SilenceUsage:  true,
		SilenceErrors: true,
		Long: `libcluster tells every instance of an application which range of cluster-wide worker
indexes is its own. This command does so for programs in any language, and shows operators
what a cluster does.

Each flag NAME can also be given by the environment variable LIBCLUSTER_NAME, in upper
case and with '_' for '-'. The flag counts more. What ETCDCTL_ENDPOINTS, ETCDCTL_USER,
ETCDCTL_CACERT, ETCDCTL_CERT and ETCDCTL_KEY say counts less. -v shows what was taken
from the environment. LIBCLUSTER_PASSWORD is the password of --user.`,
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		root.Version = versionText(info) // which adds --version
		root.SetVersionTemplate("{{.Version}}\n")
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	f := addFlags(root.PersistentFlags())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{f.Syntax(err)} })
	root.AddCommand(
		newExec(f), newLs(f), newWatch(f), newOwner(f), newCheck(f), newDrain(f), newUndrain(f), newClusters(f), newPeers(f), newServe(f),
		newSimulate(f), newTables(f), newMan(), newVersion(),
	)
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			version := command.Root().Version
			if version == "" {
				return errors.New("this program was built without its version")
			}
			_, err := fmt.Fprintln(command.OutOrStdout(), version)
			return err
		},
	}
}

// versionText is a version in one line: the module's, the revision, and Go's.
func versionText(info *debug.BuildInfo) string {
	text := program + " " + info.Main.Version
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			text += ", revision " + setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			text += " with changes"
		}
	}
	return text + ", " + info.GoVersion
}
