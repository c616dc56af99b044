package peers_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/peers"
)

// All have begun anew, and then one comes back with its folder of before: its log is longer than
// that of the new cluster, so that it would be elected.
func TestOldFolderIsRefused(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, forLong, files(t, 3, nil)...)
	active(t, all...)
	fill(t, all[0])
	first, _ := store(t, all[0])
	for _, p := range all {
		p.kill()
	}
	var restore func()
	for n, p := range all {
		restore = lose(t, p)
		all[n] = spawn(t, p.file, forLong)
	}
	active(t, all...)
	second, _ := store(t, all[0])
	require.NotEqual(t, first, second)

	all[2].kill()
	rest := all[:2]
	active(t, rest...)
	before := states(rest...)
	restore()
	old := spawn(t, all[2].file, forLong)
	old.says(t, "c.data is of another cluster")
	for _, p := range rest {
		p.says(t, "a peer has data of another cluster")
	}
	require.Equal(t, before, states(rest...), "they were called back")
	require.Empty(t, owner(t, all[0]), "what was written to the first cluster")
	rest[1].kill()
	rest[1] = spawn(t, rest[1].file, forLong)
	active(t, rest...)
	idles(t, old)

	// Data with which a server has never served goes by itself.
	old.kill()
	config, err := peers.ReadConfig(old.file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(config.DataDir, "libcluster.new"), nil, 0o600))
	all[2] = spawn(t, old.file, forLong) // rest is a part of all
	active(t, all...)
	third, voters := store(t, all[2])
	require.Equal(t, second, third)
	require.Equal(t, 3, voters)
}

// fill makes the log longer.
func fill(t *testing.T, p *process) {
	client, _, err := clientTo(p.file)
	require.NoError(t, err)
	defer client.Close()
	for n := range 100 {
		eventually(t, "it is written", func() bool { // the leader may move
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, err := client.Put(ctx, "owner", strconv.Itoa(n))
			return err == nil
		})
	}
}
