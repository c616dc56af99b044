package dirstore

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// localTypes are the file systems whose users are all of one kernel, by what statfs(2)
// calls them. Every other is taken for one of a network.
var localTypes = map[uint32]string{
	unix.EXT4_SUPER_MAGIC:      "ext4", // and ext2, ext3
	unix.XFS_SUPER_MAGIC:       "xfs",
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	0x2fc12fc1:                 "zfs",
	0xca451a4e:                 "bcachefs",
}

var networkTypes = map[uint32]string{
	unix.NFS_SUPER_MAGIC:  "nfs",
	unix.SMB_SUPER_MAGIC:  "smb",
	unix.SMB2_SUPER_MAGIC: "smb2",
	unix.CIFS_SUPER_MAGIC: "cifs",
	unix.FUSE_SUPER_MAGIC: "fuse",
	unix.V9FS_MAGIC:       "9p",
	unix.CEPH_SUPER_MAGIC: "ceph",
	unix.AFS_SUPER_MAGIC:  "afs",
}

// fileSystem returns what a folder is on, and whether all its users are of one kernel.
func fileSystem(folder string) (local bool, name string, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(folder, &stat); err != nil {
		return false, "", &os.PathError{Op: "statfs", Path: folder, Err: err}
	}
	local, name = kind(uint32(stat.Type))
	return local, name, nil
}

func kind(number uint32) (local bool, name string) {
	if name, local := localTypes[number]; local {
		return true, name
	}
	if name, known := networkTypes[number]; known {
		return false, name
	}
	return false, fmt.Sprintf("%#x", number)
}
