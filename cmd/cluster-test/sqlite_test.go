package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestInstancesMeetInAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "100 % #1?.db")
	args := []string{"-r", "SQLite:" + file, "--exclusive"}
	a := start(t, append(args, "-i", "a", "-n", "2")...)
	a.stderr.awaitText(t, "sleeping until terminated\n")
	b := start(t, append(args, "-i", "b")...)
	b.stderr.awaitText(t, "total thread count:    3")
	a.stderr.awaitText(t, "total thread count:    3")

	ls := start(t, "ls", "-r", "sqlite:"+file)
	require.Equal(t, exitOK, ls.ends(t), "%s", ls.stderr)
	require.Regexp(t, `(?m)^a +2 +0-1 `, ls.stdout.String())
	require.Regexp(t, `(?m)^b +1 +2$`, ls.stdout.String())
	for _, p := range []*running{b, a} {
		p.signal()
		require.Equal(t, exitOK, p.ends(t), "%s", p.stderr)
	}
}

func TestLookingMakesNoFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "none.db")
	for _, command := range []string{"ls", "watch"} {
		p := start(t, command, "-r", "sqlite:"+file)
		require.Equal(t, exitFailed, p.ends(t))
		require.Contains(t, p.stderr.String(), "cluster-test: cannot see the cluster: ")
		require.NoFileExists(t, file)
	}
}
