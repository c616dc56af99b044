package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testcommand"
	"github.com/libcluster/libcluster/internal/testetcd"
)

// patience bounds every wait in these tests.
const patience = testetcd.Patience

// unfenced is a TTL within which a machine that is busy does renew a record.
const unfenced = "2m"

// asProgram, set in its environment, has the test binary be the program.
const asProgram = "CLUSTER_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // or what nohup has ignored would stay so
	testetcd.Main(m)
}

func etcdURL(t *testing.T) string { return testetcd.URL(t) }

func key(t *testing.T) string { return testcommand.Key(t) }

// console is what a program has written.
type console struct{ *testcommand.Console }

func newConsole() console { return console{testcommand.NewConsole()} }

// records returns the lines of --json so far.
func records(t *testing.T, text string) []record {
	t.Helper()
	var all []record
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			break // not written to its end yet
		}
		var r record
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		all = append(all, r)
	}
	return all
}

// awaitPlace waits until the newest state of an instance is this one.
func (c console) awaitPlace(t *testing.T, instance string, index, total int) {
	t.Helper()
	c.Await(t, fmt.Sprintf("%s at %d of %d", instance, index, total), func(text string) bool {
		var last record
		for _, r := range records(t, text) {
			if r.Instance == instance {
				last = r
			}
		}
		return last.Instance != "" && last.Index == index && last.Total == total
	})
}

// running is the program under test, in this process.
type running struct {
	*testcommand.Running
	stdout, stderr console
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	p := testcommand.Start(t, run, args...)
	return &running{p, console{p.Stdout}, console{p.Stderr}}
}

func TestCommandsThatHaveMovedSayWhereTo(t *testing.T) {
	for _, command := range []string{"ls", "watch", "simulate"} {
		p := start(t, command, "-r", "embedded:")
		require.Equal(t, exitUsage, p.Ends(t))
		require.Empty(t, p.stdout.String())
		require.Equal(t, fmt.Sprintf("cluster-test: %[1]s is a command of libcluster: run 'libcluster %[1]s --help'\n", command), p.stderr.String())
	}
}
