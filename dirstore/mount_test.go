//go:build linux && faults

package dirstore_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/libcluster/libcluster/dirstore"
)

// This needs the right to mount, which root has.
func TestFullFileSystemStopsNoHeartbeat(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=700"), "mounting needs root")
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	diskIsFull(t, dir, dirstore.Dir(dir), func() {
		for size := 64 << 10; size > 0; size /= 2 { // to the last byte
			file, err := os.OpenFile(dir+"/full", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			require.NoError(t, err)
			_, err = file.Write(bytes.Repeat([]byte("x"), size))
			require.NoError(t, file.Close())
			if err != nil {
				require.ErrorIs(t, err, unix.ENOSPC)
			}
		}
	}, func() { require.NoError(t, os.Remove(dir+"/full")) })
}
