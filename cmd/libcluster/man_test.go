package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

func TestEachCommandHasAManualPage(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "man1") // which it makes
	require.Empty(t, printed(t, "man", folder))
	pages, err := os.ReadDir(folder)
	require.NoError(t, err)
	commands := []*cobra.Command{newRoot()}
	for n := 0; n < len(commands); n++ {
		for _, c := range commands[n].Commands() {
			if !c.Hidden {
				commands = append(commands, c)
			}
		}
	}
	require.Len(t, pages, len(commands))
	for _, c := range commands {
		text, err := os.ReadFile(filepath.Join(folder, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"))
		require.NoError(t, err)
		page := strings.ReplaceAll(string(text), `\-`, "-")
		c.Flags().VisitAll(func(f *pflag.Flag) { require.Contains(t, page, "--"+f.Name, "%s", c.Name()) })
		for line := range strings.Lines(c.Long) {
			if table := strings.HasPrefix(line, "  "); table {
				require.Contains(t, page, "\n"+strings.TrimPrefix(line, "  "), "%s: a line of a table is filled", c.Name())
			}
		}
	}
}

func TestManualSaysWhichVersionItIsOf(t *testing.T) {
	h := header(&debug.BuildInfo{
		Main:     debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{{Key: "vcs.time", Value: "2026-05-04T03:02:01Z"}},
	})
	require.Equal(t, "libcluster v1.2.3", h.Source)
	require.Equal(t, "May 2026", h.Date.Format("Jan 2006"))
	require.Equal(t, "libcluster", header(nil).Source)
}

func TestManualNeedsAFolder(t *testing.T) {
	for _, args := range [][]string{{"man"}, {"man", "a", "b"}} {
		status, text := failing(t, args...)
		require.Equal(t, exitUsage, status)
		require.Contains(t, text, "FOLDER")
	}
	status, text := failing(t, "man", "/dev/null/man1")
	require.Equal(t, exitFailed, status)
	require.Contains(t, text, "/dev/null")
}
