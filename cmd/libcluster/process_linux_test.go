package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// unfenced is a TTL within which a machine that is busy does renew a record.
const unfenced = "2m"

// process is libcluster exec, in a process of its own.
type process struct {
	command *exec.Cmd
	lines   chan string // of standard output and standard error
	read    []string    // those that were awaited
	ended   chan struct{}
}

// execute starts libcluster exec. args are its flags and the command.
func execute(t *testing.T, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p := &process{
		command: exec.Command(self, append([]string{asProgram, "exec", "-k", "test"}, args...)...),
		lines:   make(chan string, 1000), ended: make(chan struct{}),
	}
	p.command.Stdout, p.command.Stderr = w, w
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // for who kills the whole group
	require.NoError(t, p.command.Start())
	require.NoError(t, w.Close())
	go func() {
		defer close(p.lines)
		defer r.Close()
		for scanner := bufio.NewScanner(r); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
	}()
	go func() {
		defer close(p.ended)
		_ = p.command.Wait()
	}()
	t.Cleanup(func() {
		_ = p.command.Process.Kill() // an error says that it has ended
		<-p.ended
		go func() {
			for range p.lines { // that nobody has awaited
			}
		}()
	})
	return p
}

// await waits for a line that matches, and returns its groups as numbers.
func (p *process) await(t *testing.T, pattern string) (numbers []int) {
	t.Helper()
	watchdog := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			require.True(t, ok, "ended without %q:\n%s", pattern, strings.Join(p.read, "\n"))
			p.read = append(p.read, line)
			found := regexp.MustCompile(pattern).FindStringSubmatch(line)
			if found == nil {
				continue
			}
			for _, text := range found[1:] {
				n, err := strconv.Atoi(text)
				require.NoError(t, err)
				numbers = append(numbers, n)
			}
			return numbers
		case <-watchdog:
			require.FailNow(t, "waited in vain for "+pattern, "so far:\n%s", strings.Join(p.read, "\n"))
		}
	}
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, p.command.Process.Signal(s))
}

// ends waits for the program, and returns its exit status and all that it has written.
func (p *process) ends(t *testing.T) (status int, text string) {
	t.Helper()
	watchdog := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				<-p.ended
				return p.command.ProcessState.ExitCode(), strings.Join(p.read, "\n")
			}
			p.read = append(p.read, line)
		case <-watchdog:
			require.FailNow(t, "the program does not end", "so far:\n%s", strings.Join(p.read, "\n"))
		}
	}
}

// terminate has the program leave.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	status, text := p.ends(t)
	require.Zero(t, status, "%s", text)
}

// isGone reports whether a process has ended.
func isGone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// awaitGone waits until processes have ended.
func awaitGone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		require.Eventually(t, func() bool { return isGone(pid) }, patience, time.Millisecond, "process %d is there", pid)
	}
}

func requireGone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		require.True(t, isGone(pid), "process %d is there", pid)
	}
}

// parentOf returns the parent of a process, which is its guard if it is a command; 0 if it
// has ended.
func parentOf(pid int) (parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	var state string
	_, _ = fmt.Sscan(rest, &state, &parent)
	return parent
}

func guardOf(t *testing.T, pid int) int {
	t.Helper()
	guard := parentOf(pid)
	require.Greater(t, guard, 1)
	return guard
}

// family is a shell command that starts a child in its group and another one that leaves
// it. It writes its place and the three numbers. They end at SIGKILL only.
const family = `trap "" TERM INT; sleep 1000000 & child=$!; setsid sleep 1000000 & ` +
	`echo at $LIBCLUSTER_INDEX of $LIBCLUSTER_TOTAL: $$ $child $!; wait; wait; wait`

// places matches what family writes.
const places = `at (\d+) of (\d+): (\d+) (\d+) (\d+)`

// inFolder returns the flags of a registry in a new folder.
func inFolder(t *testing.T) []string {
	t.Helper()
	return []string{"-r", "dir:" + t.TempDir()}
}

// with returns flags, others, and a command.
func with(flags []string, more ...string) []string {
	return append(append([]string{}, flags...), more...)
}
