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

// meet has instances join, and looks at them. It returns all that was printed.
func meet(t *testing.T, registry ...string) string {
	t.Helper()
	args := append([]string{"-v", "--exclusive"}, registry...)
	a := start(t, append(args, "-i", "a", "-n", "2")...)
	a.stderr.awaitText(t, "sleeping until terminated\n")
	b := start(t, append(args, "-i", "b")...)
	b.stderr.awaitText(t, "total thread count:    3")
	a.stderr.awaitText(t, "total thread count:    3")

	ls := start(t, append([]string{"ls", "-v"}, registry...)...)
	require.Equal(t, exitOK, ls.ends(t), "%s", ls.stderr)
	require.Regexp(t, `(?m)^a +2 +0-1 `, ls.stdout.String())
	require.Regexp(t, `(?m)^b +1 +2$`, ls.stdout.String())
	require.Contains(t, ls.stdout.String(), "every index is held once")
	watch := start(t, append([]string{"watch", "-v"}, registry...)...)
	watch.stdout.awaitText(t, "every index is held once")
	b.signal()
	require.Equal(t, exitOK, b.ends(t), "%s", b.stderr)
	watch.stdout.awaitText(t, "total 2\n")
	printed := ""
	for _, p := range []*running{a, watch} {
		p.signal()
		require.Equal(t, exitOK, p.ends(t), "%s", p.stderr)
	}
	for _, p := range []*running{a, b, ls, watch} {
		printed += p.stdout.String() + p.stderr.String()
	}
	return printed
}

func TestLookingMakesNoFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "none")
	for _, scheme := range []string{"sqlite:", "dir:"} {
		for _, command := range []string{"ls", "watch"} {
			p := start(t, command, "-r", scheme+file)
			require.Equal(t, exitFailed, p.ends(t))
			require.Contains(t, p.stderr.String(), "cluster-test: cannot see the cluster: ")
			require.NoFileExists(t, file)
			require.NoDirExists(t, file)
		}
	}
}
