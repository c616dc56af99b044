//go:build faults && linux

package peers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/peers"
)

// What peers cost. Nothing here is asserted: the figures are those of the machine, and of what
// else it does.
func TestFiguresOfThreePeers(t *testing.T) {
	t.Log("load", proc(t, "/proc/loadavg"))
	var formed []time.Duration
	for range *trials {
		began := time.Now()
		all := spawnAll(t, "direct", files(t, 3, nil)...)
		formed = append(formed, awaitAll(t, "a", 3, all...).Sub(began))
		for _, p := range all {
			p.kill()
		}
	}
	slices.Sort(formed)
	t.Logf("forming of three, processes included: least %v, median %v, most %v, of %d",
		formed[0], formed[len(formed)/2], formed[len(formed)-1], len(formed))

	all := spawnAll(t, "direct", files(t, 3, nil)...)
	awaitAll(t, "a", 3, all...)
	settled(t, all...)
	time.Sleep(5 * time.Second)
	before := written(t, all...)
	time.Sleep(20 * time.Second)
	t.Log("bytes written by three in 20 s at rest:", written(t, all...)-before)
	for _, p := range all { // what is not its own is pages of the program, which processes share
		t.Log("memory of", p.id, field(t, p, "status", "VmRSS"), "of which its own is", field(t, p, "status", "RssAnon"), "disk", onDisk(t, p)>>10, "KiB")
	}

	returns := 0
	follower := roles["follower"](t, all)
	for range *trials {
		before := term(t, all[0])
		follower.kill()
		rest := without(follower, all)
		active(t, rest...)
		follower = spawn(t, follower.file, "direct")
		all = append(rest, follower)
		active(t, all...)
		returns += term(t, rest[0]) - before
	}
	t.Logf("elections by %d returns of a follower: %d", *trials, returns)

	elections, fences := term(t, all[0]), states(all...)
	var over atomic.Bool
	var loops sync.WaitGroup
	for range 4 {
		loops.Go(func() {
			for !over.Load() {
			}
		})
	}
	time.Sleep(time.Minute)
	over.Store(true)
	loops.Wait()
	t.Logf("with 4 busy loops for 60 s: %d elections, %d changes of states", term(t, all[0])-elections, states(all...)-fences)
	t.Log("load", proc(t, "/proc/loadavg"))
}

func proc(t testing.TB, file string) string {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return strings.TrimSpace(string(text))
}

// field returns a value of a file of a process.
func field(t testing.TB, p *process, file, key string) string {
	for line := range strings.SplitSeq(proc(t, fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, file)), "\n") {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	require.Fail(t, "no field "+key)
	return ""
}

func written(t testing.TB, all ...*process) (sum int) {
	for _, p := range all {
		n := 0
		_, err := fmt.Sscan(field(t, p, "io", "write_bytes"), &n)
		require.NoError(t, err)
		sum += n
	}
	return sum
}

func onDisk(t testing.TB, p *process) (sum int64) {
	config, err := peers.ReadConfig(p.file)
	require.NoError(t, err)
	require.NoError(t, filepath.Walk(config.DataDir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			sum += info.Size()
		}
		return err
	}))
	return sum
}

// term grows with each election.
func term(t testing.TB, p *process) (number int) {
	eventually(t, "a server answers", func() bool {
		status, err := statusOf(p)
		if err == nil {
			number = int(status.RaftTerm)
		}
		return err == nil
	})
	return number
}
