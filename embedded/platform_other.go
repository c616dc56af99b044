//go:build !unix

package embedded

import (
	"io/fs"
	"os"

	"github.com/gofrs/flock"
)

// ours is always true: the temporary folder itself is the user's own.
func ours(fs.FileInfo) bool { return true }

// checkPath knows nothing of access control lists.
func checkPath(string) error { return nil }

// removeLocked removes a file that we have locked, and unlocks it. In this
// order: no file that is open can be removed, be it by us or by another.
func removeLocked(f *flock.Flock) error {
	if err := f.Unlock(); err != nil {
		return err
	}
	_ = os.Remove(f.Path()) // unless another has come by now
	return nil
}
