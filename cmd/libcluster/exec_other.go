//go:build !unix

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// guardName is no name that a program has.
const guardName = ""

func guardMain() int { return exitFailed }

func newExec(*flags) *cobra.Command {
	return &cobra.Command{
		Use:                "exec [flags] -- COMMAND...",
		Short:              "Run a command as a worker, which needs a Unix system",
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("exec needs a Unix system, such as Linux: it ends process groups, which this system does not have")
		},
	}
}
