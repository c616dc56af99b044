//go:build unix

package libcluster_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// readmeProgram builds the README's program for the tests' etcd, with a change, and
// starts it. It returns when the program has a place.
func readmeProgram(t *testing.T, cluster string, change func(string) string) *exec.Cmd {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	program := regexp.MustCompile("(?s)```go\n(package main\n.*?)```").FindSubmatch(readme)
	require.NotNil(t, program)
	folder := t.TempDir()
	source := strings.NewReplacer("http://127.0.0.1:2379", etcdURL(t), `"mailer"`, `"`+cluster+`"`).Replace(string(program[1]))
	file, binary := filepath.Join(folder, "main.go"), filepath.Join(folder, "main")
	require.NoError(t, os.WriteFile(file, []byte(change(source)), 0o600))
	out, err := exec.Command("go", "build", "-o", binary, file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	command := exec.Command(binary)
	stderr, err := command.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	killer := time.AfterFunc(5*patience, func() { _ = command.Process.Kill() }) // a watchdog: its etcd may be busy
	t.Cleanup(func() { killer.Stop() })
	lines, place := bufio.NewScanner(stderr), regexp.MustCompile(`partition \d+ of 64 is mine`)
	for lines.Scan() && !place.Match(lines.Bytes()) {
		t.Logf("it says first: %s", lines.Bytes()) // that it waits for a slow machine
	}
	require.Regexp(t, place, lines.Text())
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	return command
}

func TestReadmeProgramLeavesAtSIGTERM(t *testing.T) {
	t.Parallel()
	cluster := key(t)
	command := readmeProgram(t, cluster, func(source string) string { return source })
	require.NoError(t, command.Process.Signal(syscall.SIGTERM))
	require.NoError(t, command.Wait(), "it ends well")
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdURL(t)}, Logger: zap.NewNop()})
	require.NoError(t, err)
	defer client.Close()
	got, err := client.Get(t.Context(), "/"+cluster+"/production/", clientv3.WithPrefix())
	require.NoError(t, err)
	for _, kv := range got.Kvs {
		require.Contains(t, string(kv.Key), "production//", "a member is left")
	}
}

func TestReadmeProgramEndsAtASecondSignal(t *testing.T) {
	t.Parallel()
	hangs := func(source string) string {
		changed := strings.Replace(source, "<-ctx.Done()", "select {}", 1)
		require.NotEqual(t, source, changed)
		return regexp.MustCompile(`(?s)select \{\}.*?return nil`).ReplaceAllString(changed, "select {}")
	}
	command := readmeProgram(t, key(t), hangs)
	done := make(chan error, 1)
	go func() { done <- command.Wait() }()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-done:
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, syscall.SIGINT, exit.Sys().(syscall.WaitStatus).Signal())
			return
		case <-again.C:
			_ = command.Process.Signal(syscall.SIGINT) // an error says that it has ended
		}
	}
}
