package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestInstancesMeetInAFile(t *testing.T) {
	t.Parallel()
	for _, registry := range []string{"SQLite:" + filepath.Join(t.TempDir(), "100 % #1?.db"), "Dir:" + t.TempDir()} {
		t.Run(registry[:3], func(t *testing.T) {
			t.Parallel()
			meet(t, "-r", registry)
		})
	}
}

// meet has instances join and leave. It returns all that was printed.
func meet(t *testing.T, registry ...string) string {
	t.Helper()
	args := append([]string{"-v", "--exclusive"}, registry...)
	a := start(t, append(args, "-i", "a", "-n", "2")...)
	a.stderr.AwaitText(t, "sleeping until terminated\n")
	b := start(t, append(args, "-i", "b")...)
	b.stderr.AwaitText(t, "total thread count:    3")
	a.stderr.AwaitText(t, "total thread count:    3")

	b.Signal()
	require.Equal(t, exitOK, b.Ends(t), "%s", b.stderr)
	a.stderr.AwaitText(t, "total thread count:    2\n")
	a.Signal()
	require.Equal(t, exitOK, a.Ends(t), "%s", a.stderr)
	printed := ""
	for _, p := range []*running{a, b} {
		printed += p.stdout.String() + p.stderr.String()
	}
	return printed
}
