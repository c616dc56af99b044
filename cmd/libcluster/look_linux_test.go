package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testcommand"
)

// launch starts the program in a process of its own.
func launch(t *testing.T, command *exec.Cmd) *testcommand.Console {
	t.Helper()
	console := testcommand.NewConsole()
	command.Stderr = console
	require.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill() }) // an error says that it has ended
	return console
}

func ofProgram(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	return exec.Command(self, append([]string{asProgram}, args...)...)
}

// 192.0.2.1 is an address that nobody has. In this process it would be too late to
// name a proxy: the environment is read once.
func TestProxyThatHTTPIsSentThroughIsNamed(t *testing.T) {
	t.Parallel()
	command := ofProgram(t, "ls", "-k", "m", "-r", "http://192.0.2.1:2379", "--timeout", "6s")
	command.Env = append(os.Environ(), "HTTPS_PROXY=http://me:secret@127.0.0.1:9", "NO_PROXY=")
	stderr := launch(t, command)
	require.Error(t, command.Wait())
	require.Equal(t, exitUnseen, command.ProcessState.ExitCode())
	require.Contains(t, stderr.String(), "through the proxy at 127.0.0.1:9, which HTTPS_PROXY names")
	require.Contains(t, stderr.String(), "NO_PROXY=192.0.2.1")
	require.NotContains(t, stderr.String(), "secret")
}

func TestSignalWhileThePasswordIsAskedForEndsItAndShowsWhatIsTypedAgain(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"ls": exitUnseen, "simulate": exitUnseen, "exec": 0} {
		x := testcommand.NewTerminal(t)
		command := ofProgram(t, name, "-k", "m", "-r", "http://127.0.0.1:1", "--user", "mailer")
		if name == "exec" {
			command.Args = append(command.Args, "--", "true")
		}
		command.Stdin = x.Program
		stderr := launch(t, command)
		x.RequireEcho(t, false)
		require.NoError(t, command.Process.Signal(syscall.SIGINT))
		_ = command.Wait() // its status is looked at
		require.Equal(t, want, command.ProcessState.ExitCode(), "%s", stderr)
		x.RequireEcho(t, true)
	}
}
