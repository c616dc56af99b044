package main

import (
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster/embedded"
	"github.com/libcluster/libcluster/internal/testcommand"
)

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

	x := testcommand.NewTerminal(t)
	command := process(t, "-r", server.Endpoint(), "--user", "mailer")
	command.Stdin = x.Program
	p := startProcess(t, command)
	p.stderr.AwaitText(t, `Password of "mailer": `)
	x.RequireEcho(t, false)
	_, err = x.Keys.WriteString("s3cret\n")
	require.NoError(t, err)
	p.stderr.AwaitText(t, "sleeping until terminated\n")
	x.RequireEcho(t, true)
	p.terminate(t)

	require.NoError(t, x.Keys.SetReadDeadline(time.Now())) // all has been shown by now
	shown, _ := io.ReadAll(x.Keys)
	require.NotContains(t, string(shown), "s3cret")
	require.NotContains(t, p.stderr.String(), "s3cret")
}

func TestSignalWhileThePasswordIsAskedForEndsItAndShowsWhatIsTypedAgain(t *testing.T) {
	t.Parallel()
	x := testcommand.NewTerminal(t)
	program := process(t, "-r", "http://127.0.0.1:1", "--user", "mailer")
	program.Stdin = x.Program
	p := startProcess(t, program)
	x.RequireEcho(t, false)
	p.signal(t, syscall.SIGINT)
	require.NoError(t, p.ends(t), "%s", p.stderr)
	x.RequireEcho(t, true)
}

func TestNoPasswordAtTheTerminalIsAnError(t *testing.T) {
	t.Parallel()
	x := testcommand.NewTerminal(t)
	program := process(t, "-r", "http://127.0.0.1:1", "--user", "mailer")
	program.Stdin = x.Program
	p := startProcess(t, program)
	x.RequireEcho(t, false)
	_, err := x.Keys.WriteString("\n")
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
