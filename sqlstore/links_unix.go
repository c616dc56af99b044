//go:build unix

package sqlstore

import (
	"os"
	"syscall"
)

// links returns how many names a file has.
func links(is os.FileInfo) uint64 {
	if stat, known := is.Sys().(*syscall.Stat_t); known {
		return uint64(stat.Nlink)
	}
	return 1
}
