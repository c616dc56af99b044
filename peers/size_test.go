//go:build faults && linux

package peers

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// onDisk is what the files of a folder take, which is less than their sizes: the database has holes.
func onDisk(t *testing.T, folder string) (sum int64) {
	require.NoError(t, filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		var info syscall.Stat_t
		if err == nil && syscall.Lstat(path, &info) == nil { // else it has just been removed
			sum += info.Blocks * 512
		}
		return nil
	}))
	return sum
}

// The sizes are those that Config.DataDir names.
func TestFolderTakesNoMoreThanIsSaid(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	r := serving(t, ctx)
	require.Less(t, onDisk(t, r.p.cfg.DataDir), int64(4.5*(1<<20)))

	var writing sync.WaitGroup
	value := strings.Repeat("x", 1500)
	for range 50 {
		writing.Go(func() {
			for range 220 { // 11,000 in all: after 10,000 what was before is needed no more
				_, err := r.client.Put(ctx, "key", value)
				require.NoError(t, err)
			}
		})
	}
	writing.Wait()
	log := filepath.Join(r.p.cfg.DataDir, "member", "wal")
	require.Greater(t, onDisk(t, log), int64(14<<20), "the log needs more before it is made shorter")
	require.Eventually(t, func() bool { return onDisk(t, log) < 13<<20 }, patience, 100*time.Millisecond) // etcd looks every 30 s
}
