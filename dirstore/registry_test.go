package dirstore_test

import (
	"testing"

	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/internal/teststore"
	"github.com/libcluster/libcluster/kv"
)

func TestFolderKeepsThePromises(t *testing.T) {
	dir := shm(t)
	a := teststore.NewApart(func() kv.Store { return dirstore.Dir(dir) })
	teststore.KeepsThePromises(t, func(*testing.T) *teststore.Apart { return a })
}
