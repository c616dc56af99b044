package dirstore_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
)

// An instance may look only after another one has written more than there was before.
func TestOlderStateIsAnotherHistoryThoughItHasComeFurther(t *testing.T) {
	t.Parallel()
	dir, older := shm(t), shm(t)
	space := open(t, dirstore.Dir(dir))
	put(t, space, "k", "1", 0)
	require.NoError(t, os.CopyFS(older, os.DirFS(dir)))
	last := put(t, space, "k", "2", 0)
	_, before, err := space.Get(patience(t), "k")
	require.NoError(t, err)
	require.Equal(t, last, before.Revision)

	require.NoError(t, os.Rename(dir+"/space", dir+"/away"))
	require.NoError(t, os.CopyFS(dir, os.DirFS(older)))
	another := open(t, dirstore.Dir(dir))
	for put(t, another, "k", "3", 0) < last+3 {
	}
	r, mark, err := space.Get(patience(t), "k")
	require.NoError(t, err)
	require.Equal(t, "3", string(r.Value))
	require.Greater(t, mark.Revision, before.Revision)
	require.NotEqual(t, before.Store, mark.Store)
	w, err := space.Watch(patience(t), "", mark.Revision-1)
	require.NoError(t, err)
	changes, err := w.Next(patience(t))
	require.NoError(t, err)
	require.Equal(t, mark, changes.Mark)
	put(t, another, "k", "4", 0)
	_, now, err := space.Get(patience(t), "k")
	require.NoError(t, err)
	require.Equal(t, mark.Store, now.Store, "it has gone back only once")
}

func TestFolderThatIsBackIsTheSameHistory(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	space, another := open(t, dirstore.Dir(dir)), open(t, dirstore.Dir(dir))
	put(t, space, "k", "1", 0)
	_, before, err := space.Get(patience(t), "k")
	require.NoError(t, err)
	for _, goesOn := range []bool{false, true} {
		require.NoError(t, os.Rename(dir+"/space", dir+"/away"))
		_, _, err = space.Get(patience(t), "k")
		require.ErrorIs(t, err, os.ErrNotExist)
		require.NoError(t, os.Rename(dir+"/away", dir+"/space"))
		if goesOn {
			put(t, another, "k", "2", 0)
		}
		_, mark, err := space.Get(patience(t), "k")
		require.NoError(t, err)
		require.Equal(t, before.Store, mark.Store)
	}
}
