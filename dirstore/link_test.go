package dirstore_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
)

// snapshot links all drafts into another folder, as cp -al does.
func snapshot(t *testing.T, dir string) {
	t.Helper()
	drafts, err := filepath.Glob(dir + "/space/t.*")
	require.NoError(t, err)
	require.NotEmpty(t, drafts)
	to := shm(t)
	for _, draft := range drafts {
		require.NoError(t, os.Link(draft, to+"/"+filepath.Base(draft)))
	}
}

func TestLostAnswerOfALinkIsNoFailure(t *testing.T) {
	t.Parallel()
	for what, answer := range map[string]error{"it is there": os.ErrExist, "the disk fails": syscall.EIO} {
		for _, snapshots := range []bool{false, true} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				dir := shm(t)
				store := dirstore.Dir(dir)
				var lossy atomic.Bool
				store.Around(func(call, _ string, do func() error) error {
					if call != "link" || !lossy.Load() {
						return do()
					}
					if snapshots {
						snapshot(t, dir)
					}
					if err := do(); err != nil {
						return err
					}
					return answer
				})
				space := open(t, store)
				lossy.Store(true)
				first := put(t, space, "k", "1", 0)
				require.Equal(t, first+1, put(t, space, "k", "2", 0), "it was not done twice")
			})
		}
	}
}

// A program that makes snapshots links a draft. Then the draft has two names, and none is the number.
func TestSnapshotByLinksIsNoSuccess(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	store := dirstore.Dir(dir)
	other := open(t, dirstore.Dir(dir))
	var late atomic.Bool
	store.Around(func(call, _ string, do func() error) error {
		if call == "link" && late.CompareAndSwap(true, false) {
			snapshot(t, dir)
			put(t, other, "k", "of the other", 0)
		}
		return do()
	})
	space := open(t, store)
	first := put(t, space, "k", "1", 0)
	late.Store(true)
	require.Equal(t, first+2, put(t, space, "k", "2", 0))
	require.Equal(t, "2", string(get(t, other, "k").Value))
}
