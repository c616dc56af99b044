//go:build faults && linux

package peers_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

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
	testnet.Run(t, "mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", config.DataDir)
	t.Cleanup(func() { testnet.Run(t, "umount", "-l", config.DataDir) })
	all := spawnAll(t, "exclusive", list...)
	active(t, all...)

	filler := filepath.Join(config.DataDir, "filler")
	out, err := os.Create(filler)
	require.NoError(t, err)
	_, err = out.Write(bytes.Repeat([]byte("x"), 64<<20))
	require.Error(t, err, "the disk is full")
	require.NoError(t, out.Close())
	client, _, err := clientTo(list[0])
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	big := string(bytes.Repeat([]byte("x"), 1<<20))
	for range 12 { // of which the log files that there are hold four
		eventually(t, "the others go on", func() bool { // if the server was their leader, after an election
			_, err := client.Put(ctx, "big", big)
			return err == nil
		})
	}
	all[2].says(t, "cannot go on")
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
