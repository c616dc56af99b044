//go:build linux && faults

package dirstore_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
)

// This needs root. An operator who is root looks at a cluster of another user's, or drains an instance, and
// what that makes the instances must be able to read and write.
func TestWhatRootMakesIsOfTheOwnerOfTheFolder(t *testing.T) {
	const user, group = 4711, 4712
	for _, mode := range []fs.FileMode{0o700, 0o750, os.ModeSetgid | 0o770} {
		dir := shm(t)
		require.NoError(t, os.Chown(dir, user, group), "this needs root")
		require.NoError(t, os.Chmod(dir, mode))
		space := open(t, dirstore.Dir(dir))
		owner := begin(t, space, 1e12)
		_, err := space.Renew(patience(t), owner)
		require.NoError(t, err)
		put(t, space, "k", "1", owner)
		err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			require.NoError(t, err)
			info, err := os.Stat(path)
			require.NoError(t, err)
			of := info.Sys().(*syscall.Stat_t)
			require.Equal(t, []uint32{user, group}, []uint32{of.Uid, of.Gid}, "%s in a folder with %v", path, mode)
			require.Equal(t, fs.FileMode(0o600), info.Mode().Perm()&0o600, path)
			return nil
		})
		require.NoError(t, err)
	}
}
