//go:build faults && linux

package peers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/peers"
)

// What peers cost and take, beside QCluster. The figures are those of the machine, and of what else it
// does, and are told only. What is asserted is that nothing moves on a busy machine. QCluster's were
// not measured in this run, but on a machine of two cores too, before peers were written.
func TestFiguresOfThreePeers(t *testing.T) {
	t.Log("load", proc(t, "/proc/loadavg"))
	table := [][3]string{{"", "peers", "QCluster, measured elsewhere"}, {"---", "---", "---"}}
	tell := func(what, own, qclusters string) { table = append(table, [3]string{what, own, qclusters}) }

	var all []*process
	var formed []time.Duration
	for range *trials {
		for _, p := range all {
			p.kill()
		}
		began := time.Now()
		all = spawnAll(t, "direct", files(t, 3, nil)...)
		formed = append(formed, awaitAll(t, "a", 3, all...).Sub(began))
	}
	tell("forming of three, processes included", times(formed), "0.18 s")

	settled(t, all...)
	time.Sleep(5 * time.Second)
	before, bytes := term(t, all[0]), written(t, all...)
	time.Sleep(20 * time.Second)
	bytes = written(t, all...) - bytes // an election writes
	tell("bytes written by three in 20 s at rest", fmt.Sprint(bytes, ", elections ", term(t, all[0])-before), "none: it keeps nothing")
	for _, p := range all { // what is not its own is pages of the program, which processes share
		tell("memory of "+p.id, field(t, p, "status", "VmRSS")+", its own "+field(t, p, "status", "RssAnon"), "31 MiB")
		tell("disk of "+p.id, fmt.Sprint(onDisk(t, p)>>10, " KiB"), "0")
	}

	for _, role := range []struct{ name, qclusters string }{
		{"primary", "0.178 s (0.10 to 0.24), of 20"}, {"leader", "the primary is the leader"}, {"follower", ""},
	} {
		var took []time.Duration
		for range *trials {
			var known time.Duration
			all, known = killed(t, "direct", roles[role.name], all)
			took = append(took, known)
		}
		tell("crash of the "+role.name+" until all know", times(took), role.qclusters)
	}

	elections := 0
	for range *trials {
		active(t, all...)
		before := term(t, all[0])
		all, _ = killed(t, "direct", roles["follower"], all)
		active(t, all...)
		elections += term(t, all[0]) - before
	}
	tell("elections by returns of a follower", fmt.Sprint(elections, " of ", *trials), "5 of 5")
	tell("two act at once, of 15 s for which the primary is cut off", actsBesides(t).String(), "14.6 s")

	settled(t, all...)
	before = term(t, all[0])
	told := states(all...)
	beBusy(time.Minute)
	moved := states(all...) - told
	tell("elections with 4 busy loops for 60 s", fmt.Sprint(term(t, all[0])-before), "")
	tell("changes of states with them", fmt.Sprint(moved), "")

	for _, row := range table {
		t.Log("|", strings.Join(row[:], " | "), "|")
	}
	t.Log("load", proc(t, "/proc/loadavg"))
	require.Zero(t, moved, "somebody was called back on a busy machine")
}

// actsBesides is for how long a primary acts beside another when it is cut off.
func actsBesides(t *testing.T) time.Duration {
	net := newNetwork(t, 3)
	all := net.spawnAll(t, "direct")
	active(t, all...)
	settled(t, all...)
	net.cut(primaryOf(t, all...))
	began := time.Now()
	time.Sleep(15 * time.Second)
	return overlapIn(began, time.Now(), all...)
}

// beBusy computes on four threads.
func beBusy(d time.Duration) {
	var over atomic.Bool
	var loops sync.WaitGroup
	for range 4 {
		loops.Go(func() {
			for !over.Load() {
			}
		})
	}
	time.Sleep(d)
	over.Store(true)
	loops.Wait()
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

// onDisk is what the files of a process take, which is less than their sizes: the database has holes.
func onDisk(t testing.TB, p *process) (sum int64) {
	config, err := peers.ReadConfig(p.file)
	require.NoError(t, err)
	require.NoError(t, filepath.WalkDir(config.DataDir, func(path string, _ os.DirEntry, err error) error {
		var info syscall.Stat_t
		if err == nil && syscall.Lstat(path, &info) == nil { // else it has just been removed
			sum += info.Blocks * 512
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
