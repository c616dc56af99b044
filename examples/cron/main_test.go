package main

import (
	"context"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testcommand"
	"github.com/libcluster/libcluster/internal/testetcd"
)

func TestMain(m *testing.M) { testetcd.Main(m) }

func TestWhatIsDueRunsOnOneInstance(t *testing.T) {
	registry, out := libcluster.Etcd(testetcd.URL(t)), testcommand.NewConsole() // of both
	start := func(id string) *testcommand.Running {
		return testcommand.Start(t, func(ctx context.Context, _ []string, _, stderr io.Writer) int {
			if err := run(ctx, out, registry, id, 10*time.Millisecond); err != nil {
				_, _ = io.WriteString(stderr, err.Error())
				return 1
			}
			return 0
		})
	}
	a := start("a")
	out.AwaitText(t, "a runs")
	b := start("b")
	out.Await(t, "ten more of a", func(text string) bool { return strings.Count(text, "a runs") > 10 })
	a.Signal()
	require.Zero(t, a.Ends(t), "%s", a.Stderr)
	out.AwaitText(t, "b runs")
	b.Signal()
	require.Zero(t, b.Ends(t), "%s", b.Stderr)

	require.Regexp(t, `^(a runs [^\n]*\n)+(b runs [^\n]*\n)+$`, out.String())
	due := regexp.MustCompile(`\d\S+Z\n`).FindAllString(out.String(), -1)
	require.IsIncreasing(t, due, "what was due ran twice")
}
