package dirstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
)

func TestFileSystemsThatAreRefusedByName(t *testing.T) {
	t.Parallel()
	for number, name := range map[uint32]string{
		0x6969: "nfs", 0xff534d42: "cifs", 0xfe534d42: "smb2", 0x65735546: "fuse", 0x01021997: "9p", 1: "0x1",
	} {
		local, called := dirstore.Kind(number)
		require.False(t, local)
		require.Equal(t, name, called)
	}
	for number, name := range map[uint32]string{
		0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x01021994: "tmpfs", 0x794c7630: "overlay", 0x2fc12fc1: "zfs",
	} {
		local, called := dirstore.Kind(number)
		require.True(t, local)
		require.Equal(t, name, called)
	}
}
