package embedded

import (
	"os"
	"path/filepath"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

// beginNew is to be called before an etcd opens its data. If the first one on
// this folder never came to serve, what it left is removed: an etcd that was
// cut off between making its files and writing the first entry to them goes on
// starting from them for ever after, without getting ready.
func beginNew(dir string) error {
	stage, err := etcdserver.StageOf(dir)
	if err != nil || stage != etcdserver.Forming {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, etcdserver.MemberDir))
}
