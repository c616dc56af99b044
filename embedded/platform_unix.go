//go:build unix

package embedded

import (
	"errors"
	"io/fs"
	"os"

	"github.com/gofrs/flock"
)

// ours reports whether a file belongs to this user, and to nobody else.
func ours(info fs.FileInfo) bool {
	return ownerOf(info) == os.Geteuid() && info.Mode().Perm()&0o077 == 0
}

// removeLocked removes a file that we have locked, and unlocks it. In this
// order: the file of that name may be another's as soon as it is unlocked.
func removeLocked(f *flock.Flock) error {
	err := os.Remove(f.Path())
	return errors.Join(err, f.Unlock())
}
