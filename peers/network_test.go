//go:build faults && linux

package peers_test

import (
	"path/filepath"
	"testing"

	"github.com/libcluster/libcluster/internal/testnet"
)

// network is of peers on a host each, to which this process has a line too, and of one more host.
type network struct {
	*testnet.Network
	files []string
}

// newNetwork connects n peers.
func newNetwork(t *testing.T, n int) *network {
	net := &network{Network: testnet.New(t, n+1)}
	net.Join()
	dir := t.TempDir()
	for self := range n {
		net.files = append(net.files, write(t, filepath.Join(dir, name(self)+".json"), map[string]any{
			"identifier": name(self), "listen_host": testnet.Address(self), "listen_port": 7001, "peers": entries(n, self),
		}))
	}
	return net
}

// entries are those of the peers, but one.
func entries(n, self int) (all []any) {
	for other := range n {
		if other != self {
			all = append(all, map[string]any{"host": testnet.Address(other), "port": 7001, "identifier": name(other)})
		}
	}
	return all
}

// client starts, on the host more, an instance that is a client of the peers.
func (n *network) client(t *testing.T, id, mode string) *process {
	host := len(n.files)
	file := write(t, filepath.Join(t.TempDir(), id+".json"), map[string]any{"identifier": id, "peers": entries(host, host)})
	return spawn(t, file, mode, n.On(host)...)
}

// spawnAll starts a process on each host.
func (n *network) spawnAll(t *testing.T, mode string) (all []*process) {
	for host := range n.files {
		all = append(all, n.spawn(t, host, mode))
	}
	return all
}

func (n *network) spawn(t *testing.T, host int, mode string) *process {
	return spawn(t, n.files[host], mode, n.On(host)...)
}

// hostOf is the opposite of name.
func hostOf(p *process) int { return int(p.id[0] - 'a') }

func (n *network) cut(p *process)  { n.Cut(hostOf(p)) }
func (n *network) mend(p *process) { n.Mend(hostOf(p)) }

// drop drops what a peer sends, or a part of it.
func (n *network) drop(p *process, which ...string) {
	n.Rule(hostOf(p), append(append([]string{"OUTPUT", "-o", "eth0"}, which...), "-j", "DROP")...)
}

// deafen drops what comes to a peer.
func (n *network) deafen(p *process) { n.Rule(hostOf(p), "INPUT", "-i", "eth0", "-j", "DROP") }

// pass drops nothing any more.
func (n *network) pass(p *process) { n.Pass(hostOf(p)) }
