package dirstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/kv"
)

// strange are things that somebody puts into the place of a document.
var strange = map[string]func(path string) error{
	"an empty file":    func(path string) error { return os.WriteFile(path, nil, 0o600) },
	"garbage":          func(path string) error { return os.WriteFile(path, []byte("garbage\n\x00{"), 0o600) },
	"one long line":    func(path string) error { return os.WriteFile(path, make([]byte, 1<<20), 0o600) },
	"an empty folder":  func(path string) error { return os.Mkdir(path, 0o700) },
	"a folder":         func(path string) error { return os.MkdirAll(path+"/in/it", 0o700) },
	"a broken link":    func(path string) error { return os.Symlink("nowhere", path) },
	"a link to a file": func(path string) error { return os.Symlink("/etc/passwd", path) },
	"a pipe":           func(path string) error { return syscall.Mkfifo(path, 0o600) },
	"the first document": func(path string) error {
		file, err := os.ReadFile(filepath.Dir(path) + "/s.1")
		return errors.Join(err, os.WriteFile(path, file, 0o600))
	},
	"a half of the last one": func(path string) error {
		all, err := filepath.Glob(filepath.Dir(path) + "/s.*")
		if err != nil {
			return err
		}
		file, err := os.ReadFile(all[len(all)-1])
		return errors.Join(err, os.WriteFile(path, file[:len(file)/2], 0o600))
	},
}

func TestForeignFilesChangeNothing(t *testing.T) {
	t.Parallel()
	for what, putAt := range strange {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := shm(t)
			store := dirstore.Dir(dir)
			space := open(t, store)
			owner := begin(t, space, 1e12)
			first := put(t, space, "k", "1", owner)
			w, err := space.Watch(patience(t), "", first)
			require.NoError(t, err)
			defer w.Close()
			for _, name := range []string{
				"s.", "s.x", "s.0", "s.-1", "s.00000000005", "s.99999999999999999999", "s.999999", "s.999998", "t.x", "h.x", "h.", "x",
				fmt.Sprint("s.", first+1), fmt.Sprint("s.", first+2), fmt.Sprint("h.", fmt.Sprintf("%x", int64(owner))),
			} {
				require.NoError(t, putAt(dir+"/space/"+name))
			}

			for _, user := range []kv.Space{space, open(t, dirstore.Dir(dir))} {
				require.Equal(t, "1", string(get(t, user, "k").Value))
			}
			_, err = space.Renew(patience(t), owner)
			require.NoError(t, err)
			require.Greater(t, put(t, space, "k", "2", owner), first)
			require.Equal(t, "2", string(get(t, open(t, dirstore.Dir(dir)), "k").Value))
			changes, err := w.Next(patience(t))
			require.NoError(t, err)
			require.Len(t, changes.Records, 1)
			require.Equal(t, "2", string(changes.Records[0].Value))
			for range 1100 { // until all of it has been pruned
				put(t, space, "n", "", 0)
			}
			require.Equal(t, "2", string(get(t, open(t, dirstore.Dir(dir)), "k").Value))
			require.NoFileExists(t, fmt.Sprint(dir, "/space/s.", first+1))
			require.NoFileExists(t, dir+"/space/s.1")
			require.NoError(t, space.End(patience(t), owner))
			require.Zero(t, get(t, space, "k").Version)
		})
	}
}

// A power cut may take what files contain, but for the lowest one.
func TestDocumentsThatAPowerCutHasEmptiedAreAsIfTheyHadChangedNothing(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	space := open(t, dirstore.Dir(dir))
	kept := put(t, space, "k", "kept", 0)
	put(t, space, "k", "lost", 0)
	put(t, space, "k", "follows what is lost", 0)
	last := put(t, space, "k", "lost too", 0)
	for _, number := range []int64{kept + 1, last} {
		require.NoError(t, os.Truncate(fmt.Sprint(dir, "/space/s.", number), 0))
	}
	for range 2 {
		after := open(t, dirstore.Dir(dir))
		require.Equal(t, "kept", string(get(t, after, "k").Value))
		require.Greater(t, put(t, after, "k", "kept", 0), last)
	}
}

func TestSpaceWithoutDocumentsIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := shm(t)
		open(t, dirstore.Dir(dir))
		require.NoError(t, os.Remove(dir+"/space/s.1"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := dirstore.Dir(dir).Open(ctx, "space")
		require.ErrorContains(t, err, dir+"/space has no document")
	})
}

func TestFullDiskStopsNoHeartbeat(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	store := dirstore.Dir(dir)
	var full atomic.Bool
	store.Around(func(call, name string, do func() error) error {
		err := do()
		if full.Load() && call == "write half" && err == nil {
			err = &os.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
		}
		return err
	})
	diskIsFull(t, dir, store, func() { full.Store(true) }, func() { full.Store(false) })
}

// diskIsFull has a user go on while nothing more can be written, and after that.
func diskIsFull(t *testing.T, dir string, store *dirstore.Store, fill, free func()) {
	t.Helper()
	space := open(t, store)
	owner := begin(t, space, 1e12)
	put(t, space, "k", "1", owner)
	_, err := space.Renew(patience(t), owner)
	require.NoError(t, err)
	fill()
	_, err = space.Commit(patience(t), kv.Tx{Put: []kv.Record{{Key: "k", Value: make([]byte, 4096)}}})
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NotErrorIs(t, err, kv.ErrRefused, "there may be room again")
	_, err = space.Renew(patience(t), owner)
	require.NoError(t, err)
	require.Equal(t, "1", string(get(t, space, "k").Value))
	drafts, err := filepath.Glob(dir + "/space/t.*")
	require.NoError(t, err)
	require.Empty(t, drafts)
	free()
	put(t, space, "k", "2", owner)
}

func TestFolderThatWillNotDoIsRefused(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	require.NoError(t, os.WriteFile(dir+"/file", nil, 0o600))
	require.NoError(t, os.Mkdir(dir+"/public", 0o700))
	require.NoError(t, os.Chmod(dir+"/public", 0o777))
	for folder, why := range map[string]string{
		dir + "/none":   "make it first (mkdir -m 700 " + dir + "/none)",
		dir + "/file":   "is no folder",
		dir + "/public": "every user may write to " + dir + "/public",
		"/proc":         "set Network",
	} {
		_, err := dirstore.Dir(folder).Open(patience(t), "space")
		require.ErrorIs(t, err, kv.ErrRefused, folder)
		require.ErrorContains(t, err, why)
	}
	network := dirstore.Dir(dir)
	network.Network = true
	open(t, network)
	_, err := dirstore.Dir(dir).Open(patience(t), "space")
	require.ErrorIs(t, err, kv.ErrRefused, "the others go by another rule")
	require.ErrorContains(t, err, "Network is false")

	require.NoError(t, os.Chmod(dir+"/"+dirstore.Name("space"), 0o777))
	_, err = network.Open(patience(t), "space")
	require.ErrorIs(t, err, kv.ErrRefused)
}

func TestFolderWithoutLinksOrWritesIsRefusedAlsoIfTheSpaceIsThere(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	put(t, open(t, dirstore.Dir(dir)), "k", "1", 0)
	before, err := os.ReadDir(dir + "/space")
	require.NoError(t, err)
	for _, c := range []struct {
		call    string
		err     error
		refused bool
	}{
		{"link", syscall.EPERM, true},
		{"link", syscall.EOPNOTSUPP, true},
		{"write half", syscall.EACCES, true},
		{"write half", syscall.EROFS, true},
		{"write half", syscall.ENOSPC, false},
	} {
		store := dirstore.Dir(dir)
		store.Around(func(call, name string, do func() error) error {
			if call == c.call {
				return &os.PathError{Op: call, Path: name, Err: c.err}
			}
			return do()
		})
		space, err := store.Open(patience(t), "space")
		if c.refused {
			require.ErrorIs(t, err, kv.ErrRefused, "%s: %v", c.call, c.err)
			require.ErrorIs(t, err, c.err)
		} else {
			require.NoError(t, err, "it may have room again")
			require.Equal(t, "1", string(get(t, space, "k").Value))
			require.NoError(t, space.Close())
		}
	}
	after, err := os.ReadDir(dir + "/space")
	require.NoError(t, err)
	require.Len(t, after, len(before), "nothing is left of what was tried")
}

func TestNobodyElseMayReadOrWrite(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	space := open(t, dirstore.Dir(dir))
	owner := begin(t, space, 1e12)
	_, err := space.Renew(patience(t), owner)
	require.NoError(t, err)
	err = filepath.Walk(dir+"/space", func(path string, info os.FileInfo, err error) error {
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o007, "%s: %v", path, info.Mode())
		return nil
	})
	require.NoError(t, err)
}

func TestNamesOfSpacesAreNoPaths(t *testing.T) {
	t.Parallel()
	dir := shm(t) + "/in"
	require.NoError(t, os.Mkdir(dir, 0o700))
	names := []string{
		".", "..", "/", "../x", "../../x", "a/../b", "a/b", "a", "A", "a.", "new.x", "%61", "a%2fb", "a~b", "ä", "a\u0308",
		strings.Repeat("é", 400), strings.Repeat("é", 399) + "ab", strings.Repeat("a", 800), strings.Repeat("a", 799) + "b",
	}
	store := dirstore.Dir(dir)
	folders := map[string]bool{}
	for _, name := range names {
		space, err := store.Open(patience(t), name)
		require.NoError(t, err, "%q", name)
		defer space.Close()
		put(t, space, "k", name, 0)
		folder := dirstore.Name(name)
		require.Regexp(t, `^[a-z0-9_%-][a-z0-9_%~-]{0,200}$`, folder)
		require.DirExists(t, dir+"/"+folder)
		folders[strings.ToLower(folder)] = true
	}
	require.Len(t, folders, len(names))
	for _, name := range names {
		space, err := dirstore.Dir(dir).Open(patience(t), name)
		require.NoError(t, err)
		defer space.Close()
		require.Equal(t, name, string(get(t, space, "k").Value))
	}
	for _, parent := range []string{dir, dir + "/.."} {
		entries, err := os.ReadDir(parent)
		require.NoError(t, err)
		require.Contains(t, []int{len(names), 1}, len(entries))
	}
	for _, name := range []string{"", "a\x00b", "a\nb", "\xff", strings.Repeat("a", 801)} {
		_, err := store.Open(patience(t), name)
		require.ErrorIs(t, err, kv.ErrRefused, "%q", name)
	}
}
