//go:build unix

package embedded_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/embedded"
	"github.com/libcluster/libcluster/internal/testhost"
)

// folderWith makes a folder of such a mode, whatever the umask.
func folderWith(t *testing.T, mode os.FileMode, path ...string) string {
	t.Helper()
	dir := filepath.Join(path...)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.Chmod(dir, mode))
	return dir
}

func requireRefused(t *testing.T, dir, says string) {
	t.Helper()
	_, err := embedded.Open(testContext(t), embedded.Config{Port: testhost.FreePort(t), Dir: dir, Fast: true})
	require.ErrorContains(t, err, says)
	_, err = embedded.Start(testContext(t), embedded.Config{Dir: dir, Fast: true})
	require.ErrorContains(t, err, says)
}

func TestLinkInAFolderThatOthersMayWriteToIsNotFollowed(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	dir := folderWith(t, 0o777, t.TempDir(), "data")
	for _, file := range []string{"libcluster.port", "libcluster.pem", "libcluster.lock", "libcluster.new", "member"} {
		require.NoError(t, os.Symlink(victim, filepath.Join(dir, file)))
	}
	requireRefused(t, dir, "other users may write to "+dir)
	text, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "precious", string(text))
}

func TestFolderThatOthersMayReplaceIsRefused(t *testing.T) {
	open := folderWith(t, 0o777, t.TempDir(), "open")
	for name, dir := range map[string]string{
		"there":         folderWith(t, 0o700, open, "mine"),
		"not there yet": filepath.Join(open, "none"),
		"further down":  folderWith(t, 0o700, open, "a", "b", "c"),
		"behind a link": filepath.Join(open, "link"),
		"by way of it":  filepath.Join(t.TempDir(), "link", "mine"),
	} {
		t.Run(name, func(t *testing.T) {
			switch name {
			case "behind a link":
				require.NoError(t, os.Symlink(t.TempDir(), dir))
			case "by way of it":
				require.NoError(t, os.Symlink(open, filepath.Dir(dir)))
			}
			requireRefused(t, dir, "other users may write to "+open)
		})
	}
	require.NoDirExists(t, filepath.Join(open, "none"))
}

// A sticky folder will do on the way, but not for the data, as others may put links into it.
func TestStickyFolderIsRefused(t *testing.T) {
	dir := folderWith(t, 0o777|os.ModeSticky, t.TempDir(), "sticky")
	requireRefused(t, dir, "other users may write to "+dir)
}

func TestWayBackFromALinkIsThatOfTheSystem(t *testing.T) {
	there, here := t.TempDir(), t.TempDir()
	folderWith(t, 0o700, there, "deep")
	mine := folderWith(t, 0o777, there, "mine")
	folderWith(t, 0o700, here, "mine")
	require.NoError(t, os.Symlink(filepath.Join(there, "deep"), filepath.Join(here, "a")))
	require.NoError(t, os.Symlink("a/../mine", filepath.Join(here, "link")))
	requireRefused(t, filepath.Join(here, "link"), "other users may write to "+mine)
}

func TestGroupMayNotWriteToAFolderUnlessItIsTheUsersOwn(t *testing.T) {
	dir := folderWith(t, 0o770, t.TempDir(), "data")
	if os.Getegid() == os.Geteuid() {
		start(t, embedded.Config{Dir: dir})
		return
	}
	requireRefused(t, dir, "other users may write to "+dir)
}

func TestFolderOfAnotherUserIsRefused(t *testing.T) {
	dir := "/" // root's
	if os.Geteuid() == 0 {
		dir = folderWith(t, 0o755, t.TempDir(), "data")
		require.NoError(t, os.Chown(dir, 65534, 65534))
		// Only root can make these for a test.
		requireRefused(t, folderWith(t, 0o700, dir, "below"), dir+" belongs to another user")
		link := filepath.Join(folderWith(t, 0o777|os.ModeSticky, t.TempDir(), "sticky"), "link")
		require.NoError(t, os.Symlink(t.TempDir(), link))
		require.NoError(t, os.Lchown(link, 65534, 65534))
		requireRefused(t, link, link+" belongs to another user")
	}
	requireRefused(t, dir, dir+" belongs to another user")
}

func TestFolderThatNobodyElseHasAHandInIsTaken(t *testing.T) {
	mine := t.TempDir()
	sticky := folderWith(t, 0o777|os.ModeSticky, t.TempDir(), "sticky")
	for name, to := range map[string]string{"absolute": mine, "relative": "../" + filepath.Base(filepath.Dir(sticky)) + "/sticky/mine"} {
		link := filepath.Join(filepath.Dir(sticky), name)
		require.NoError(t, os.Symlink(to, link))
		folderWith(t, 0o700, sticky, "mine")
		put(t, open(t, embedded.Config{Port: testhost.FreePort(t), Dir: link}), "key", name)
	}
	start(t, embedded.Config{Dir: filepath.Join(sticky, "new", "folder")})
	require.FileExists(t, filepath.Join(mine, "libcluster.pem"))
	require.FileExists(t, filepath.Join(sticky, "mine", "libcluster.pem"))
}
