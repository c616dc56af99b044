//go:build unix

package embedded_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/libcluster/libcluster/embedded"
	"github.com/libcluster/libcluster/internal/testetcd"
	"github.com/libcluster/libcluster/internal/testhost"
)

func TestFolderThatOthersMayWriteToIsRefused(t *testing.T) {
	dir := temporary(t)
	port := testhost.FreePort(t)
	name := "libcluster-etcd-" + strconv.Itoa(os.Geteuid()) + "-" + strconv.Itoa(port)
	require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	require.NoError(t, os.Chmod(filepath.Join(dir, name), 0o777))
	_, err := embedded.Open(testContext(t), embedded.Config{Port: port, Fast: true})
	require.ErrorContains(t, err, name+": is not a folder of this user alone")

	require.NoError(t, os.Remove(filepath.Join(dir, name)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	_, err = embedded.Open(testContext(t), embedded.Config{Port: port, Fast: true})
	require.ErrorContains(t, err, name+": is not a folder of this user alone")

	require.NoError(t, os.Remove(filepath.Join(dir, name)))
	require.NoError(t, os.Symlink(t.TempDir(), filepath.Join(dir, name)))
	_, err = embedded.Open(testContext(t), embedded.Config{Port: port, Fast: true})
	require.ErrorContains(t, err, name+": is not a folder of this user alone")
}

// A file that may not grow stands for a disk that is full.
func TestErrorOfADiskThatIsFullSaysWhy(t *testing.T) {
	dir := t.TempDir()
	child := exec.CommandContext(testContext(t), "sh", "-c", `ulimit -f 1000 && exec "$0"`, os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	output, err := child.CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.Contains(t, string(output), "start an etcd with its data in "+dir)
	require.Contains(t, string(output), syscall.EFBIG.Error())
}

// Another etcd knows nothing of our lock, and holds one of its own.
func TestStartOnTheFolderOfAnotherProgramEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	others := goleak.IgnoreCurrent()
	s := start(t, embedded.Config{Dir: dir})
	put(t, s, "key", "value")
	require.NoError(t, s.Close())
	other := flock.New(filepath.Join(dir, "member", "snap", "db"))
	locked, err := other.TryLock()
	require.NoError(t, err)
	require.True(t, locked)

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = embedded.Start(ctx, embedded.Config{Dir: dir, Fast: true})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, "another program may have the folder open")

	// What was given up ends when it can, and leaves everything as it was.
	require.NoError(t, other.Unlock())
	require.NoError(t, testetcd.Leaked(others))
	s = start(t, embedded.Config{Dir: dir})
	require.Equal(t, "value", get(t, s, "key"))
}
