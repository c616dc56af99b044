package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

// While anybody is in the folder, nobody may clear or remove it; and when
// nobody is, it is not there. Each of those who come and go leaves a file while
// he is in, as an etcd would. With few of them the folder is removed often, with
// many they come all at once.
func TestFolderIsClearedOnlyWhenNobodyIsIn(t *testing.T) {
	for _, users := range []int{2, 3, 8} {
		t.Run(fmt.Sprint(users), func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("TMPDIR", dir)
			t.Setenv("TMP", dir)
			var wg sync.WaitGroup
			for i := range users {
				wg.Go(func() {
					for range 300 {
						comeAndGo(t, fmt.Sprint(i))
					}
				})
			}
			wg.Wait()
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func comeAndGo(t *testing.T, name string) {
	f, err := share(t.Context(), "", 1)
	if err != nil {
		t.Errorf("could not come: %v", err)
		return
	}
	data := filepath.Join(f.file(etcdserver.MemberDir), name)
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Errorf("the folder is gone: %v", err)
	}
	if err := os.Remove(data); err != nil {
		t.Errorf("the data is gone: %v", err)
	}
	if err := f.leave(); err != nil {
		t.Errorf("could not go: %v", err)
	}
}

// Between opening the users file and locking it, it is removed, and then made
// anew by another.
func TestLockOnARemovedFileDoesNotCount(t *testing.T) {
	for name, then := range map[string]func(file string) error{
		"removed":  os.Remove,
		"replaced": func(file string) error { return errors.Join(os.Remove(file), os.WriteFile(file, nil, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			f, err := claim(t.TempDir())
			require.NoError(t, err)
			require.NoError(t, f.users.Unlock())
			locked, err := f.lock(func() (bool, error) {
				locked, err := f.users.TryLock()
				return locked, errors.Join(err, then(f.file(usersFile)))
			})
			require.NoError(t, err)
			require.False(t, locked)

			locked, err = f.lock(f.users.TryLock)
			require.NoError(t, err)
			require.True(t, locked)
			require.NoError(t, f.leave())
		})
	}
}
