//go:build unix

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// deployment is some processes with IDs that they keep.
type deployment struct {
	*testing.T
	mode      libcluster.Mode
	args      []string
	processes []*child
	told      []int // how many events each has had once it had its place among all
}

func deploy(t *testing.T, processes int, mode libcluster.Mode, ttl string) *deployment {
	t.Helper()
	d := &deployment{t, mode, []string{
		"--json", "-k", key(t), "-r", etcdURL(t), "--mode", mode.String(), "--ttl", ttl, "--returning", "10m",
	}, make([]*child, processes), make([]int, processes)}
	for i := range d.processes {
		d.processes[i] = d.start(nodeID(i))
	}
	for i, p := range d.processes {
		p.stdout.Await(t, "a total of all", func(text string) bool {
			all := records(t, text)
			d.told[i] = len(all)
			return len(all) > 0 && all[len(all)-1].Total == processes && all[len(all)-1].Index >= 0
		})
		p.stderr.AwaitText(t, "sleeping until terminated\n")
	}
	return d
}

func nodeID(i int) string { return fmt.Sprintf("node%d", i) }

func (d *deployment) start(id string) *child {
	d.Helper()
	return launch(d.T, append(d.args, "-i", id)...)
}

// place is what a process was told when it got its place among all.
func (d *deployment) place(i int) record {
	d.Helper()
	return records(d.T, d.processes[i].stdout.String())[d.told[i]-1]
}

// since are the events of a process since then.
func (d *deployment) since(i int) string {
	d.Helper()
	return strings.Join(d.processes[i].events(d.T)[d.told[i]:], ", ")
}

// restart ends a process, which is told just that since it has its place, and starts
// it again, in the same place. It returns for how long that was without it.
func (d *deployment) restart(i int, end func(*child, *testing.T), told string) (away time.Duration) {
	d.Helper()
	before := d.place(i)
	gone := time.Now()
	end(d.processes[i], d.T)
	require.Equal(d, told, d.since(i), nodeID(i))
	d.processes[i], d.told[i] = d.start(nodeID(i)), 1
	d.processes[i].stdout.awaitPlace(d.T, nodeID(i), before.Index, before.Total)
	return time.Since(gone)
}

// requireNothingTold makes sure that nobody has been told anything since all had
// their places. One more joins, of which everybody is told: whatever was told before
// has come by then.
func (d *deployment) requireNothingTold() {
	d.Helper()
	last, all := d.start("z"), len(d.processes)+1 // by its ID too it is the last
	last.stdout.awaitPlace(d.T, "z", all-1, all)
	require.Equal(d, []string{fmt.Sprintf("joined %d/%d", all-1, all)}, last.events(d.T))
	for i, p := range d.processes {
		index := d.place(i).Index
		p.stdout.awaitPlace(d.T, nodeID(i), index, all)
		want := fmt.Sprintf("rebalanced %d/%d", index, all)
		if d.mode == libcluster.ModeExclusive {
			want = fmt.Sprintf("stopped -1/%d, ", all-2) + want
		}
		require.Equal(d, want, d.since(i), "%s is told of the one who joins, and of nothing else", nodeID(i))
	}
}

func TestRollingRestartOfProcessesCallsNobodyElseBack(t *testing.T) {
	t.Parallel()
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			d := deploy(t, 3, mode, unfenced)
			var longest time.Duration
			for i := range d.processes {
				longest = max(longest, d.restart(i, (*child).terminate, "left -1/2"))
			}
			d.requireNothingTold()
			t.Logf("restarts: a place was without its process for %v at most", longest.Round(time.Millisecond))
		})
	}
}

func TestProcessThatIsKilledAndBackWithinTheTTLCallsNobodyElseBack(t *testing.T) {
	t.Parallel()
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			ttl := unfenced
			if mode == libcluster.ModeExclusive {
				ttl = "15s" // of which it waits for most
			}
			d := deploy(t, 3, mode, ttl)
			away := d.restart(1, (*child).kill, "")
			d.requireNothingTold()
			if mode == libcluster.ModeExclusive {
				require.Greater(t, away, 9*time.Second, "until the killed one must have stopped by any clock")
			}
			t.Logf("killed: its place was without it for %v", away.Round(time.Millisecond))
		})
	}
}
