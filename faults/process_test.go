//go:build linux && faults

package faults_test

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testetcd"
)

// roleVariable tells a process that it is not the test but a part in it.
const (
	roleVariable = "LIBCLUSTER_FAULTS_ROLE"
	roleServer   = "server"
	roleMember   = "member"
	roleActor    = "actor"
	roleHolder   = "holder"
)

// patience bounds every wait.
const patience = testetcd.Patience

// process is the test binary in another role.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
}

// spawn starts a process. The caller sees to it that the process is killed.
func spawn(t *testing.T, role string, output *os.File, env []string, args ...string) *process {
	t.Helper()
	return spawnAt(t, nil, role, output, env, args...)
}

// spawnAt does the same on a host of a network, whose words come before the command.
func spawnAt(t *testing.T, host []string, role string, output *os.File, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	words := slices.Concat(host, []string{self}, args)
	p := &process{t: t, cmd: exec.Command(words[0], words[1:]...), ended: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), roleVariable+"="+role), env...)
	p.cmd.Stdout, p.cmd.Stderr = output, output
	// It must not outlive a test that is killed, not even if it is frozen.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // how it ended is told by what it has written
		close(p.ended)
	}()
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s), "signal %v", s)
}

func (p *process) freeze() { p.t.Helper(); p.signal(syscall.SIGSTOP) }
func (p *process) thaw()   { p.t.Helper(); p.signal(syscall.SIGCONT) }

// kill ends the process with no chance to clean up, and returns when the kernel
// has closed its connections.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error says that it has ended
	<-p.ended
}

// stop has the process end by itself.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		require.FailNow(p.t, "a process does not end after SIGTERM")
	}
}
