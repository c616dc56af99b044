package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newMan returns the command that packagers call. Others need it no more than that for the
// completions of shells, and do not see it.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:    "man FOLDER",
		Short:  "Write the manual pages into a folder, one for each command",
		Hidden: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("needs one FOLDER, and got %d", len(args))}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			info, _ := debug.ReadBuildInfo() // a nil has no version
			return doc.GenManTree(manual(newRoot()), header(info), args[0])
		},
	}
}

// header is what is at the head and the foot of each page. The date is that of the source, so
// that it is the same for all who build it.
func header(info *debug.BuildInfo) *doc.GenManHeader {
	h := &doc.GenManHeader{Section: "1", Source: program, Manual: program}
	if info == nil {
		return h
	}
	h.Source += " " + info.Main.Version
	for _, setting := range info.Settings {
		if setting.Key != "vcs.time" {
			continue
		}
		if date, err := time.Parse(time.RFC3339, setting.Value); err == nil {
			h.Date = &date
		}
	}
	return h
}

// manual has texts written for a terminal read as Markdown, from which the pages are made: what is
// indented there, such as a table, stays as it is.
func manual(command *cobra.Command) *cobra.Command {
	command.DisableAutoGenTag = true
	lines := strings.Split(command.Long, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "  ") {
			lines[i] = "  " + line
		}
	}
	command.Long = strings.Join(lines, "\n")
	for _, sub := range command.Commands() {
		manual(sub)
	}
	return command
}
