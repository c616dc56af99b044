//go:build !wasm

package libcluster

import (
	"sync"

	"github.com/libcluster/libcluster/internal/etcd"
)

// etcdNotes is what the connections of one stay to etcd have in common.
type etcdNotes struct {
	mu    sync.Mutex // guards what follows
	login *etcdLogin
	tls   *etcdTLS

	exposed sync.Once // it has been logged that others can read the password
	shared  etcd.Shared
}

func etcdNotesOf(a *attempts) *etcdNotes {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.connections == nil {
		a.connections = &etcdNotes{}
	}
	return a.connections.(*etcdNotes)
}
