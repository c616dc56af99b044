//go:build !wasm

package libcluster

import (
	"sync"

	"github.com/libcluster/libcluster/internal/etcd"
)

// etcdConnections is what the connections of one membership have in common.
type etcdConnections struct {
	mu    sync.Mutex // guards what follows
	login *etcdLogin
	tls   *etcdTLS

	exposed sync.Once // it has been logged that others can read the password
	shared  etcd.Shared
}
