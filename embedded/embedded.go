// Package embedded runs an etcd inside this process: for trying out, for
// tests, and for clusters on one machine that have no servers of their own.
//
// [Start] runs an etcd for this process to share as it likes. [Open] runs one
// for all processes of this user on this machine that open the same port: one
// of them hosts it, and when that one ends, however it ends, another takes it
// over with the same data, on the same port, within a second or two. Clients
// see a short outage and go on.
//
// The processes that [Open] one have a certificate in common, in a folder that is this
// user's alone. A program that cannot read the folder is not served, and an etcd of
// another user that has got hold of the port is not used. Clients need [Shared.TLS]; for
// etcdctl the file libcluster.pem in the folder is --cacert, --cert and --key. An etcd of
// [Start] has no certificate: every program on this machine may read and write it.
//
// It is one etcd, not a group of them, and listens on loopback only. It answers
// gRPC requests, as all clients of etcd v3 send them, and nothing else: no
// HTTP for health or metrics. A host that hangs without ending is not taken
// over. The data folder takes 128 MB of disk from the start, for the two log
// files that etcd allocates ahead.
//
// An etcd that cannot write its data, on a full disk for example, cannot go on
// and has no way to say so to its clients. As etcd does on its own, it then
// ends the process: with a panic that names the reason.
package embedded

import (
	"fmt"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/outlet"
)

// Config says where an etcd listens and keeps its data. The zero value is
// useful for [Start]; [Open] needs a port.
type Config struct {
	// Port on 127.0.0.1 for clients, 0 to 65535. Default: a free one, with
	// [Start] only: those who [Open] an etcd meet at the port.
	Port int

	// Dir is the data folder. It is made if it does not exist, and never
	// removed. One folder serves one port at a time. One that a separate etcd
	// has used will do if that was 3.7, and is stopped; the data of much older
	// ones makes etcd panic. It has to be this user's: one that another user may write
	// to, or could replace, is refused.
	//
	// Default: a temporary folder. That of Start is new each time, and Close
	// removes it. That of Open is the same for all processes of one user that
	// open the same port: the first to come finds it empty, and the last to go
	// removes it. Name a folder for an etcd that is to live for longer than
	// the system leaves files in its temporary folder.
	Dir string

	// Logger receives what etcd itself logs at Warn and above, and from Open
	// also who hosts the etcd, at Info, and why a take-over fails, at Error.
	// Default: silent.
	//
	// Nothing waits for it; what it can't take up is dropped, as with the Logger of a
	// libcluster.Config. Close waits up to a second for the last lines.
	Logger *zap.Logger

	// Fast is for tests: the etcd serves after a tenth of a second and does
	// not wait for the disk. What it has acknowledged survives the end of the
	// process, but not of the machine.
	Fast bool
}

// withDefaults returns the configuration with its defaults filled in, but for
// those that stand for something to be found on starting.
func (c Config) withDefaults() (Config, error) {
	if c.Port < 0 || c.Port > 65535 {
		return c, fmt.Errorf("embedded: Port %d: must be 0 to 65535", c.Port)
	}
	if c.Dir != "" {
		dir, err := filepath.Abs(c.Dir) // the process may change its directory
		if err != nil {
			return c, fmt.Errorf("embedded: Dir %s: %w", c.Dir, err)
		}
		c.Dir = dir
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	c.Logger = outlet.Logger(c.Logger) // or its sink could stop the etcd, and all who use it
	return c, nil
}
