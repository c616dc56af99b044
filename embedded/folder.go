package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gofrs/flock"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

// Files in the data folder, beside etcd's own. A process that has ended, or was
// killed, holds no lock any more.
const (
	// usersFile is locked, shared, by all who opened the folder, and
	// exclusively by one who is alone with it: Start for as long as its etcd
	// runs; Open and Close for the moment in which they clear the folder.
	usersFile = "libcluster.lock"
	// hostFile is locked by the one of them who runs the etcd or starts it.
	hostFile = "libcluster-host.lock"
	// servingFile is locked while the etcd serves.
	servingFile = "libcluster-serving.lock"
	// identityFile holds the certificate and the key of those who opened the folder, which
	// the first of them makes.
	identityFile = "libcluster.pem"
	// portFile holds the port at which those who opened the folder meet.
	portFile = "libcluster.port"
)

const (
	// shareRetry is how soon to look again while another clears the folder.
	shareRetry = 10 * time.Millisecond
	// shareTimeout is longer than clearing takes: who has a folder for himself
	// for so long, keeps it.
	shareTimeout = 2 * time.Second
)

// folder is a data folder in use by us.
type folder struct {
	dir       string
	temporary bool
	users     *flock.Flock
	identity  []byte // if the folder is shared
}

// claim takes a folder for us alone; with no name given a new one.
func claim(dir string) (*folder, error) {
	f := &folder{dir: dir, temporary: dir == ""}
	var err error
	if f.temporary {
		f.dir, err = os.MkdirTemp("", "libcluster-etcd-")
	}
	if err == nil {
		err = f.make()
	}
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", f.dir, err)
	}
	f.users = flock.New(f.file(usersFile))
	alone, err := f.users.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if !alone {
		return nil, fmt.Errorf("data folder %s is in use by another etcd: stop that one, or use another folder", dir)
	}
	return f, nil
}

// share joins those who use a folder for one port; with no name given, the one
// for this user and port. The first to come finds no data in the latter.
func share(ctx context.Context, dir string, port int) (*folder, error) {
	f := &folder{dir: dir, temporary: dir == ""}
	if f.temporary {
		f.dir = filepath.Join(os.TempDir(), fmt.Sprintf("libcluster-etcd-%d-%d", max(os.Geteuid(), 0), port))
	}
	f.users = flock.New(f.file(usersFile))
	taken := time.After(shareTimeout)
	for {
		shared, err := f.tryShare(port)
		switch {
		case err != nil:
			return nil, fmt.Errorf("data folder %s: %w", f.dir, err)
		case shared:
			return f, nil
		}
		select {
		case <-time.After(shareRetry):
		case <-taken:
			return nil, fmt.Errorf("data folder %s is in use by an etcd that is not shared: "+
				"stop that one, or use another folder", f.dir)
		case <-ctx.Done():
			return nil, fmt.Errorf("data folder %s is locked: %w", f.dir, context.Cause(ctx))
		}
	}
}

// tryShare reports false if it is to be tried again.
//
// A lock cannot be turned from exclusive into shared without a gap, in which
// another may come and find himself alone as well. So nothing is done between
// clearing and having the shared lock: there is nothing to lose yet.
func (f *folder) tryShare(port int) (bool, error) {
	if err := f.make(); err != nil {
		return false, err
	}
	alone, err := f.lock(f.users.TryLock)
	if err != nil {
		return false, err
	}
	if alone {
		err := f.clear()
		if err == nil {
			err = f.write(portFile, []byte(strconv.Itoa(port)))
		}
		if err == nil {
			err = f.identify()
		}
		if err := errors.Join(err, f.users.Unlock()); err != nil {
			return false, err
		}
	}
	shared, err := f.lock(f.users.TryRLock)
	if !shared || err != nil {
		return false, err
	}
	used, err := os.ReadFile(f.file(portFile))
	if err == nil {
		f.identity, err = os.ReadFile(f.file(identityFile))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// In the gap the last one left, and removed what was ready for us.
		return false, f.users.Unlock()
	case err == nil && string(used) != strconv.Itoa(port):
		err = fmt.Errorf("is in use for port %s: use that port, or another folder", used)
	}
	if err != nil {
		return false, errors.Join(err, f.users.Unlock())
	}
	return true, nil
}

// lock calls try, which locks the users file, and then makes sure that the
// file is still in its place: who was the last to leave may have removed it,
// together with the folder, after we opened and before we locked it. The lock
// would be one that nobody else ever meets.
func (f *folder) lock(try func() (bool, error)) (bool, error) {
	locked, err := try()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // removed before we opened it
	}
	if !locked || err != nil {
		return false, err
	}
	held, err := f.users.Stat()
	if err != nil {
		return false, errors.Join(err, f.users.Unlock())
	}
	placed, err := os.Stat(f.file(usersFile))
	if err != nil || !os.SameFile(held, placed) {
		return false, f.users.Unlock()
	}
	return true, nil
}

// make makes the folder if it is not there, and refuses one in which another user
// could have a hand.
func (f *folder) make() error {
	if !f.temporary {
		if err := checkPath(f.dir); err != nil {
			return err
		}
		if err := os.MkdirAll(f.dir, 0o700); err != nil {
			return err
		}
		return checkPath(f.dir)
	}
	if err := os.Mkdir(f.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed since; to be tried again
	}
	if err != nil {
		return err
	}
	if !info.IsDir() || !ours(info) {
		return errors.New("is not a folder of this user alone: remove it, or name another folder")
	}
	return checkPath(f.dir)
}

// identify makes an identity for those who share the folder from now on.
func (f *folder) identify() error {
	identity, err := newIdentity()
	if err != nil {
		return err
	}
	return f.write(identityFile, identity)
}

// write makes a file of our own anew.
func (f *folder) write(name string, content []byte) error {
	if err := os.Remove(f.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(f.file(name), content, 0o600)
}

// clear removes the data of a temporary folder that nobody else uses.
func (f *folder) clear() error {
	if !f.temporary {
		return nil
	}
	return os.RemoveAll(f.file(etcdserver.MemberDir))
}

// leave ends our use of the folder. The last one removes a temporary folder.
func (f *folder) leave() error {
	if err := f.users.Unlock(); err != nil {
		return fmt.Errorf("unlock data folder %s: %w", f.dir, err)
	}
	if !f.temporary {
		return nil
	}
	alone, err := f.lock(f.users.TryLock)
	if alone {
		err = f.remove()
	}
	if err != nil {
		return fmt.Errorf("remove data folder %s: %w", f.dir, err)
	}
	return nil
}

// remove removes the folder and unlocks the users file, which goes last: as
// long as it is in its place, and locked, nobody else makes use of the folder.
func (f *folder) remove() error {
	entries, err := os.ReadDir(f.dir)
	for _, entry := range entries {
		if entry.Name() != usersFile {
			err = errors.Join(err, os.RemoveAll(f.file(entry.Name())))
		}
	}
	err = errors.Join(err, removeLocked(f.users))
	_ = os.Remove(f.dir) // unless another has come by now, and made the file anew
	return err
}

// served reports whether somebody's etcd serves.
func (f *folder) served() (bool, error) {
	serving := flock.New(f.file(servingFile))
	free, err := serving.TryRLock()
	if err != nil {
		return false, err
	}
	return !free, serving.Unlock()
}

func (f *folder) file(name string) string { return filepath.Join(f.dir, name) }
