package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/libcluster/libcluster/internal/quote"
)

// format is the value of a flag for what is printed.
type format string

const (
	formatTable format = "table"
	formatWide  format = "wide" // a table with all columns
	formatJSON  format = "json" // a line
)

var formats = []string{string(formatTable), string(formatWide), string(formatJSON)}

func (f *format) String() string { return string(*f) }

// Type is the name of the value's kind.
func (f *format) Type() string { return "format" }

// Set reads the format.
func (f *format) Set(name string) error {
	if !slices.Contains(formats, name) {
		return fmt.Errorf("there is no format %q", name)
	}
	*f = format(name)
	return nil
}

// census is the text of a census.
func (f format) census(c census) string {
	if f == formatJSON {
		return line(c)
	}
	return c.table(f == formatWide)
}

// news is the text of a census among others.
func (f format) news(c census) string {
	if f == formatJSON {
		return line(c)
	}
	return time.Now().Format(time.TimeOnly) + "  " + f.census(c) + "\n"
}

// line is a value for programs.
func line(value any) string {
	text, err := json.Marshal(value)
	if err != nil { // strings and numbers always marshal
		panic(err)
	}
	return quote.JSON(text) + "\n"
}

// write writes to standard output.
func write(stdout io.Writer, text string) error {
	if _, err := io.WriteString(stdout, text); err != nil {
		return fmt.Errorf("cannot write to standard output: %w", err)
	}
	return nil
}

// suggest has the shell complete the values of a flag.
func suggest(command *cobra.Command, flag string, values ...string) {
	if err := command.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(fmt.Sprintf("--%s of %s: %v", flag, command.Name(), err)) // it has no such flag, or has been given another
	}
}

// modeNames are the values of --mode.
var modeNames = strings.Fields("direct planned exclusive cooperative")
