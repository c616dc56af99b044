//go:build unix

package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/operator"
)

// spell is the time from one event that gives a place to the one that takes it back.
type spell struct {
	record
	from, until time.Time
}

func (s spell) String() string {
	return fmt.Sprintf("%s at %d+%d of %d, generation %d, from %s to %s", s.Instance, s.Index, s.Workers, s.Total,
		s.Generation, s.from.Format(operator.TimeForm), s.until.Format(operator.TimeForm))
}

func instant(t *testing.T, r record) time.Time {
	t.Helper()
	at, err := time.Parse(operator.TimeForm, r.Time)
	require.NoError(t, err)
	return at
}

// spells returns those of one process with one instance. One that goes on lasts until end.
func (c *child) spells(t *testing.T, end time.Time) (all []spell) {
	t.Helper()
	open := false
	for _, r := range records(t, c.stdout.String()) {
		at := instant(t, r)
		if open {
			all[len(all)-1].until = at
		}
		if open = r.Index >= 0; open {
			all = append(all, spell{r, at, end})
		}
	}
	return all
}

// requireOneAfterAnother checks that an instance which had a place in one generation had
// stopped before anybody started in a later one.
func requireOneAfterAnother(t *testing.T, all []spell) {
	t.Helper()
	for _, a := range all {
		for _, b := range all {
			if a.Generation < b.Generation {
				require.False(t, b.from.Before(a.until), "%v\n%v", a, b)
			}
		}
	}
}

func TestInExclusiveModeAllProcessesStopBeforeAnyStarts(t *testing.T) {
	t.Parallel()
	run := func(id, threads, work string) *child {
		return launch(t, "--json", "--exclusive", "--ttl", unfenced, "-k", key(t), "-r", etcdURL(t),
			"-i", id, "-n", threads, "--work", work)
	}
	// The one that takes longest to stop is none that the others could guess.
	one := run("node1", "2", "100ms")
	one.stdout.awaitPlace(t, "node1", 0, 2)
	two := run("node2", "1", "2s")
	two.stdout.awaitPlace(t, "node2", 2, 3)
	one.stdout.awaitPlace(t, "node1", 0, 3)
	three := run("node3", "4", "0s")
	three.stdout.awaitPlace(t, "node3", 3, 7)
	one.stdout.awaitPlace(t, "node1", 0, 7)
	two.stdout.awaitPlace(t, "node2", 2, 7)
	two.stderr.AwaitText(t, "cluster-test: has stopped for the next plan\n")

	// One that leaves is waited for too: it says so when its work has ended.
	two.terminate(t)
	one.stdout.awaitPlace(t, "node1", 0, 6)
	three.stdout.awaitPlace(t, "node3", 2, 6)

	three.terminate(t)
	one.stdout.awaitPlace(t, "node1", 0, 2)
	one.terminate(t)

	var all []spell
	for _, c := range []*child{one, two, three} {
		all = append(all, c.spells(t, time.Now())...)
	}
	require.Len(t, all, 5+2+2, "%v", all)
	requireOneAfterAnother(t, all)

	require.Equal(t, []string{
		"joined 0/2", "stopped -1/0", "rebalanced 0/3", "stopped -1/1", "rebalanced 0/7",
		"stopped -1/5", "rebalanced 0/6", "stopped -1/4", "rebalanced 0/2", "left -1/0",
	}, one.events(t))
	require.Greater(t, all[2].from.Sub(all[1].until), time.Second,
		"node1 has waited for node2, which takes two seconds to stop")
}

func TestInPlannedModeProcessesKeepTheirAssignments(t *testing.T) {
	run := func(id string) *child {
		return launch(t, "--json", "--mode", "planned", "-k", key(t), "-r", etcdURL(t), "-i", id)
	}
	c := run("c")
	c.stdout.awaitPlace(t, "c", 0, 1)
	b := run("b")
	b.stdout.awaitPlace(t, "b", 1, 2)
	a := run("a")
	a.stdout.awaitPlace(t, "a", 2, 3)
	c.stdout.awaitPlace(t, "c", 0, 3)
	b.stdout.awaitPlace(t, "b", 1, 3)
	c.terminate(t)
	a.stdout.awaitPlace(t, "a", 0, 2)
	b.stdout.awaitPlace(t, "b", 1, 2)
	for _, r := range records(t, b.stdout.String()) {
		require.NotEqual(t, stopped, r.Event, "nobody waits")
	}
}

func TestAProcessOfAnotherModeIsRefused(t *testing.T) {
	args := []string{"--json", "-k", key(t), "-r", etcdURL(t)}
	first := start(t, append(args, "--exclusive", "-i", "a")...)
	first.stdout.awaitPlace(t, "a", 0, 1)
	for _, other := range [][]string{nil, {"--mode", "planned"}} {
		p := start(t, append(append(args, "-i", "b"), other...)...)
		require.Equal(t, exitFailed, p.Ends(t))
		require.Contains(t, p.stderr.String(), "the cluster runs in mode exclusive")
		require.Empty(t, p.stdout.String())
	}
	require.Len(t, records(t, first.stdout.String()), 1, "nobody has noticed")
}
