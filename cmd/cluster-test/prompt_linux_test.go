package main

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"github.com/libcluster/libcluster/embedded"
)

// terminal is one at which a test types.
type terminal struct {
	keys, program *os.File
}

func newTerminal(t *testing.T) terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { keys.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { program.Close() })
	return terminal{keys, program}
}

// echoes waits until what is typed is shown, or not.
func (x terminal) echoes(t *testing.T, want bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		settings, err := unix.IoctlGetTermios(int(x.program.Fd()), unix.TCGETS)
		require.NoError(t, err)
		return settings.Lflag&unix.ECHO != 0 == want
	}, patience, time.Millisecond)
}

func TestPasswordIsAskedForAtTheTerminalWithoutShowingIt(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(t.Context(), embedded.Config{Fast: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}})
	require.NoError(t, err)
	defer client.Close()
	_, err = client.UserAdd(t.Context(), "mailer", "s3cret")
	require.NoError(t, err)
	_, err = client.RoleAdd(t.Context(), "all")
	require.NoError(t, err)
	_, err = client.RoleGrantPermission(t.Context(), "all", "/", "0", clientv3.PermissionType(clientv3.PermReadWrite))
	require.NoError(t, err)
	_, err = client.UserGrantRole(t.Context(), "mailer", "all")
	require.NoError(t, err)
	enableUsers(t, server.Endpoint())

	x := newTerminal(t)
	command := process(t, "-r", server.Endpoint(), "--user", "mailer")
	command.Stdin = x.program
	p := startProcess(t, command)
	p.stderr.awaitText(t, `Password of "mailer": `)
	x.echoes(t, false)
	_, err = x.keys.WriteString("s3cret\n")
	require.NoError(t, err)
	p.stderr.awaitText(t, "sleeping until terminated\n")
	x.echoes(t, true)
	p.terminate(t)

	require.NoError(t, x.keys.SetReadDeadline(time.Now())) // all has been shown by now
	shown, _ := io.ReadAll(x.keys)
	require.NotContains(t, string(shown), "s3cret")
	require.NotContains(t, p.stderr.String(), "s3cret")
}

func TestSignalWhileThePasswordIsAskedForEndsItAndShowsWhatIsTypedAgain(t *testing.T) {
	t.Parallel()
	for _, command := range [][]string{{}, {"ls"}, {"simulate"}} {
		x := newTerminal(t)
		program := process(t, append(command, "-r", "http://127.0.0.1:1", "--user", "mailer")...)
		program.Stdin = x.program
		p := startProcess(t, program)
		x.echoes(t, false)
		p.signal(t, syscall.SIGINT)
		require.NoError(t, p.ends(t), "%s", p.stderr)
		x.echoes(t, true)
	}
}

func TestNoPasswordAtTheTerminalIsAnError(t *testing.T) {
	t.Parallel()
	x := newTerminal(t)
	program := process(t, "-r", "http://127.0.0.1:1", "--user", "mailer")
	program.Stdin = x.program
	p := startProcess(t, program)
	x.echoes(t, false)
	_, err := x.keys.WriteString("\n")
	require.NoError(t, err)
	require.Error(t, p.ends(t))
	require.Contains(t, p.stderr.String(), `user "mailer" has no password; give --password-file, set LIBCLUSTER_PASSWORD, or type it at a terminal`)
}

func TestPasswordIsNotAskedForWithoutATerminal(t *testing.T) {
	t.Parallel()
	program := process(t, "-r", "http://127.0.0.1:1", "--user", "mailer")
	silent, typing, err := os.Pipe()
	require.NoError(t, err)
	defer silent.Close()
	defer typing.Close()
	program.Stdin = silent
	p := startProcess(t, program)
	require.Error(t, p.ends(t))
	require.NotContains(t, p.stderr.String(), "Password of")
	require.Contains(t, p.stderr.String(), "type it at a terminal")
}
