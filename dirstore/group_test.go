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

// The umask is the whole process's: this test runs alone.
func TestGroupOfTheFolderMayDoAllWhateverTheUmask(t *testing.T) {
	before := syscall.Umask(0o077)
	defer syscall.Umask(before)
	for _, c := range []struct{ folder, space, file fs.FileMode }{
		{os.ModeSetgid | 0o770, os.ModeSetgid | 0o770, 0o660},
		{0o775, 0o770, 0o660},
		{0o750, 0o750, 0o640},
		{0o700, 0o700, 0o600},
	} {
		dir := shm(t)
		require.NoError(t, os.Chmod(dir, c.folder))
		space := open(t, dirstore.Dir(dir))
		owner := begin(t, space, 1e12)
		_, err := space.Renew(patience(t), owner)
		require.NoError(t, err)
		names := 0
		err = filepath.WalkDir(dir+"/space", func(path string, _ fs.DirEntry, err error) error {
			require.NoError(t, err)
			info, err := os.Stat(path)
			require.NoError(t, err)
			want := c.file
			if info.IsDir() {
				want = fs.ModeDir | c.space
			}
			require.Equal(t, want, info.Mode(), "%s in a folder with %v", path, c.folder)
			names++
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, 4, names, "a folder, two documents and a heartbeat")
	}
}
