//go:build unix

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testhost"
)

// child is the program in a process of its own.
type child struct {
	stdout, stderr console
	command        *exec.Cmd
	ended          chan error
}

// process is the program as a process, which has not been started.
func process(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	command := exec.Command(self, args...)
	command.Env = append(os.Environ(), asProgram+"=1")
	return command
}

func launch(t testing.TB, args ...string) *child {
	t.Helper()
	return startProcess(t, process(t, args...))
}

func startProcess(t testing.TB, command *exec.Cmd) *child {
	t.Helper()
	c := &child{newConsole(), newConsole(), command, make(chan error, 1)}
	c.command.Stdout, c.command.Stderr = c.stdout, c.stderr
	require.NoError(t, c.command.Start())
	go func() {
		c.ended <- c.command.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		_ = c.command.Process.Kill() // an error says that it has ended
		<-c.ended
	})
	return c
}

func (c *child) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, c.command.Process.Signal(s))
}

// ends waits for the process and returns its error: nil for status 0.
func (c *child) ends(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.ended:
		return err
	case <-time.After(patience):
		require.FailNow(t, "the process does not end", "%s", c.stderr)
	}
	return nil
}

// terminate has the process leave and end, as its supervisor does.
func (c *child) terminate(t *testing.T) {
	t.Helper()
	c.signal(t, syscall.SIGTERM)
	require.NoError(t, c.ends(t), "%s", c.stderr)
}

// kill ends the process in the middle of whatever it does.
func (c *child) kill(t *testing.T) {
	t.Helper()
	c.signal(t, syscall.SIGKILL)
	require.Error(t, c.ends(t))
}

// events are the lines of --json so far, in brief.
func (c *child) events(t *testing.T) (all []string) {
	t.Helper()
	for _, r := range records(t, c.stdout.String()) {
		all = append(all, fmt.Sprintf("%s %d/%d", r.Event, r.Index, r.Total))
	}
	return all
}

func TestProcessesShareAnEmbeddedEtcdThatOutlivesItsHost(t *testing.T) {
	t.Parallel() // it waits for a TTL
	uri := fmt.Sprintf("embedded:%d/%s", testhost.FreePort(t), filepath.Join(t.TempDir(), "data"))
	args := []string{"--json", "--ttl", "10s", "-r", uri}

	host := launch(t, append(args, "-i", "node1", "-n", "2")...)
	host.stdout.awaitPlace(t, "node1", 0, 2)
	two := launch(t, append(args, "-i", "node2")...)
	three := launch(t, append(args, "-i", "node3", "-n", "4")...)
	four := launch(t, append(args, "-i", "node4")...)
	host.stdout.awaitPlace(t, "node1", 0, 8)
	two.stdout.awaitPlace(t, "node2", 2, 8)
	three.stdout.awaitPlace(t, "node3", 3, 8)
	four.stdout.awaitPlace(t, "node4", 7, 8)
	two.stderr.AwaitText(t, "sleeping until terminated\n")

	two.signal(t, syscall.SIGINT)
	require.NoError(t, two.ends(t))
	require.Regexp(t, `(?s)
cluster-test: signal received, will terminate
cluster-test: will now leave the cluster
cluster-test: cluster has re-balanced:
   instance index:        -1
   instance thread count: 1
   total thread count:    7
cluster-test: successfully left the cluster
$`, two.stderr.String())
	host.stdout.awaitPlace(t, "node1", 0, 7)
	three.stdout.awaitPlace(t, "node3", 2, 7)
	four.stdout.awaitPlace(t, "node4", 6, 7)

	host.kill(t)
	three.stdout.awaitPlace(t, "node3", 0, 5)
	four.stdout.awaitPlace(t, "node4", 4, 5)

	// The one that has taken over leaves properly too, and so does the last.
	three.terminate(t)
	four.stdout.awaitPlace(t, "node4", 0, 1)
	four.terminate(t)
}

// killed waits for the process and returns the signal that has ended it.
func (c *child) killed(t *testing.T) syscall.Signal {
	t.Helper()
	var exit *exec.ExitError
	require.ErrorAs(t, c.ends(t), &exit)
	return exit.Sys().(syscall.WaitStatus).Signal()
}

func TestSignalThatComesLaterEndsTheProcessAtOnce(t *testing.T) {
	t.Parallel()
	p := launch(t, "--work", "10m")
	p.stderr.AwaitText(t, "sleeping until terminated\n")
	p.signal(t, syscall.SIGINT)
	p.stderr.AwaitText(t, "cluster-test: will now leave the cluster\n")
	go func() {
		again := time.NewTicker(100 * time.Millisecond)
		defer again.Stop()
		for range again.C {
			if p.command.Process.Signal(syscall.SIGTERM) != nil {
				return // it has ended
			}
		}
	}()
	require.Equal(t, syscall.SIGTERM, p.killed(t))
}

func TestEverySignalLeavesAlsoIfItIsSentSeveralTimes(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			p := launch(t, "--work", "500ms")
			p.stderr.AwaitText(t, "sleeping until terminated\n")
			p.signal(t, s)
			p.stderr.AwaitText(t, "cluster-test: will now leave the cluster\n")
			p.signal(t, s)
			p.signal(t, syscall.SIGTERM)
			require.NoError(t, p.ends(t), "%s", p.stderr)
			require.Contains(t, p.stderr.String(), "   instance index:        -1\n")
			require.Contains(t, p.stderr.String(), "successfully left the cluster\n")
		})
	}
}

func TestHangupThatNohupIgnoresStaysIgnored(t *testing.T) {
	command := process(t)
	nohup := exec.Command("nohup", command.Path)
	nohup.Env = command.Env
	p := startProcess(t, nohup)
	p.stderr.AwaitText(t, "sleeping until terminated\n")
	p.signal(t, syscall.SIGHUP)
	p.signal(t, syscall.SIGTERM)
	require.NoError(t, p.ends(t), "%s", p.stderr)
}

func TestClosedPipeDoesNotKillTheProcess(t *testing.T) {
	command := process(t, "--json", "-i", "node")
	stdout, err := command.StdoutPipe()
	require.NoError(t, err)
	stderr := newConsole()
	command.Stderr = stderr
	require.NoError(t, stdout.Close(), "before there is anything to read")
	err = command.Run()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, exitFailed, exit.ExitCode(), "not killed by SIGPIPE")
	require.Contains(t, stderr.String(), "   instance index:        -1\n")
}

// Its callbacks print, and so does its log. A reader that has stopped reading must
// neither hold up the others nor keep it from ending.
func TestFullPipeHoldsUpNobody(t *testing.T) {
	t.Parallel()
	args := []string{"-v", "--json", "--mode", "exclusive", "-r", fmt.Sprintf("embedded:%d", testhost.FreePort(t))}
	host := launch(t, append(args, "-i", "node1")...)
	host.stdout.awaitPlace(t, "node1", 0, 1)

	full := process(t, append(args, "-i", "node2")...)
	for _, stream := range []*io.Writer{&full.Stdout, &full.Stderr} {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		defer w.Close()
		fillPipe(t, w)
		*stream = w
	}
	require.NoError(t, full.Start())
	ended := make(chan error, 1)
	go func() { ended <- full.Wait() }()
	host.stdout.awaitPlace(t, "node1", 0, 2)
	three := launch(t, append(args, "-i", "node3")...)
	three.stdout.awaitPlace(t, "node3", 2, 3)
	three.terminate(t)
	host.stdout.awaitPlace(t, "node1", 0, 2)

	require.NoError(t, full.Process.Signal(syscall.SIGINT))
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(patience):
		require.NoError(t, full.Process.Kill())
		require.FailNow(t, "the process does not end")
	}
	host.stdout.awaitPlace(t, "node1", 0, 1)
	host.terminate(t)
}

// fillPipe writes to a pipe until it takes no more.
func fillPipe(t *testing.T, w *os.File) {
	t.Helper()
	raw, err := w.SyscallConn()
	require.NoError(t, err)
	full := make([]byte, 1<<20) // more than one takes
	require.NoError(t, raw.Write(func(fd uintptr) bool {
		require.NoError(t, syscall.SetNonblock(int(fd), true))
		_, _ = syscall.Write(int(fd), full)
		require.NoError(t, syscall.SetNonblock(int(fd), false))
		return true
	}))
}

// The lease would live for longer than the test waits.
func TestKilledProcessIsNoticedByItsHeartbeats(t *testing.T) {
	t.Parallel()
	args := []string{"-v", "-r", "dir:" + t.TempDir(), "--ttl", "3m", "--heartbeats", "127.0.0.1:0"}
	a := launch(t, args...)
	a.stderr.AwaitText(t, "total thread count:    1")
	b := launch(t, args...) // so it never was alone
	for _, c := range []*child{a, b} {
		c.stderr.AwaitText(t, "total thread count:    2")
	}
	// That the port refuses from which nothing was ever heard proves nothing.
	b.stderr.AwaitText(t, "another instance is heard")
	a.signal(t, syscall.SIGKILL)
	b.stderr.AwaitText(t, "total thread count:    1")
}
