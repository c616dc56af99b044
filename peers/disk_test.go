//go:build faults && linux

package peers_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testnet"

	"github.com/libcluster/libcluster/peers"
)

// A full disk ends the server, and not the application: the instance is fenced.
func TestFullDiskDoesNotTakeTheApplicationAlong(t *testing.T) {
	list := files(t, 3, nil)
	config, err := peers.ReadConfig(list[2])
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(config.DataDir, 0o700))
	testnet.Run(t, "mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", config.DataDir)
	t.Cleanup(func() { testnet.Run(t, "umount", "-l", config.DataDir) })
	all := spawnAll(t, "exclusive", list...)
	active(t, all...)

	filler := filepath.Join(config.DataDir, "filler")
	out, err := os.Create(filler)
	require.NoError(t, err)
	_, err = out.Write(bytes.Repeat([]byte("x"), 24<<20))
	require.Error(t, err, "the disk is full")
	require.NoError(t, out.Close())
	client, _, err := clientTo(list[0])
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	big := string(bytes.Repeat([]byte("x"), 1<<20))
	eventually(t, "the server cannot go on", func() bool {
		_, err := client.Put(ctx, "big", big)
		require.NoError(t, err, "the others go on")
		time.Sleep(50 * time.Millisecond)
		for _, e := range all[2].all() {
			if e.Kind == "trouble" && bytes.Contains([]byte(e.Text), []byte("cannot go on")) {
				return true
			}
		}
		return false
	})
	active(t, all[:2]...)
	idles(t, all[2])

	select {
	case <-all[2].ended:
		require.Fail(t, "the application has ended")
	default:
	}
	require.Zero(t, overlap(all...))

	// It may come back by itself, if etcd did not leave the folder locked.
	require.NoError(t, os.Remove(filler))
	all[2].kill()
	all[2] = spawn(t, list[2], "exclusive")
	active(t, all...)
}
