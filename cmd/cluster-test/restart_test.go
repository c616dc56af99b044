//go:build unix

package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// deployment is ten processes with IDs that they keep.
type deployment struct {
	*testing.T
	binary    string
	args      []string
	processes []*child
}

func deploy(t *testing.T, binary string, mode libcluster.Mode, args ...string) *deployment {
	t.Helper()
	const processes = 10
	d := &deployment{t, binary, append([]string{
		"--json", "-k", strings.ReplaceAll(t.Name(), "/", " "), "-r", etcdURL(t), "--mode", mode.String(), "--returning", "1m",
	}, args...), make([]*child, processes)}
	for i := range d.processes {
		d.start(i)
	}
	for i := range d.processes {
		d.processes[i].stdout.await(t, "a total of ten", func(text string) bool {
			all := records(t, text)
			return len(all) > 0 && all[len(all)-1].Total == processes && all[len(all)-1].Index >= 0
		})
	}
	return d
}

func (d *deployment) start(i int) {
	d.Helper()
	d.processes[i] = launch(d.T, d.binary, append(d.args, "-i", fmt.Sprintf("node%d", i))...)
}

// last is the latest state of a process, and how many it has been told.
func (d *deployment) last(i int) (place record, told int) {
	d.Helper()
	all := records(d.T, d.processes[i].stdout.String())
	return all[len(all)-1], len(all)
}

// told is how many callbacks all but one have had.
func (d *deployment) told(but int) (sum int) {
	d.Helper()
	for i := range d.processes {
		if i != but {
			_, told := d.last(i)
			sum += told
		}
	}
	return sum
}

// restart ends a process and starts it again. It returns for how long its place was
// without it, and how many callbacks the others had.
func (d *deployment) restart(i int, how syscall.Signal) (away time.Duration, called int) {
	d.Helper()
	before, _ := d.last(i)
	told := d.told(i)
	gone := time.Now()
	d.processes[i].signal(d.T, how)
	ended := d.processes[i].ends(d.T)
	require.Equal(d, how == syscall.SIGKILL, ended != nil, "%v", ended)
	d.start(i)
	d.processes[i].stdout.awaitPlace(d.T, fmt.Sprintf("node%d", i), before.Index, before.Total)
	return time.Since(gone), d.told(i) - told
}

func TestRollingRestartOfTenProcessesCallsNobodyElseBack(t *testing.T) {
	binary := build(t)
	for _, mode := range []libcluster.Mode{libcluster.Direct, libcluster.Planned, libcluster.Exclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			d := deploy(t, binary, mode)
			var longest time.Duration
			called := 0
			for i := range d.processes {
				away, others := d.restart(i, syscall.SIGTERM)
				longest, called = max(longest, away), called+others
			}
			time.Sleep(200 * time.Millisecond) // for what should not come
			require.Zero(t, called+d.told(-1)-len(d.processes), "each new process has been told one place, and nobody else a thing")
			t.Logf("ten restarts: %d callbacks of others; a place was without its process for %v at most",
				called, longest.Round(time.Millisecond))
		})
	}
}

func TestProcessThatIsKilledAndBackWithinTheTTLCallsNobodyElseBack(t *testing.T) {
	binary := build(t)
	for _, mode := range []libcluster.Mode{libcluster.Direct, libcluster.Planned, libcluster.Exclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			d := deploy(t, binary, mode, "--ttl", "5s")
			away, called := d.restart(3, syscall.SIGKILL)
			require.Zero(t, called)
			if mode == libcluster.Exclusive {
				require.Greater(t, away, 4*time.Second, "until the killed one must have stopped by any clock")
			}
			t.Logf("killed: %d callbacks of others; its place was without it for %v", called, away.Round(time.Millisecond))
		})
	}
}
