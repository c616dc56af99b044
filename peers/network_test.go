//go:build faults && linux

package peers_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// network is of peers that have a network namespace each, at a bridge in another one, to
// which this process has a line too. It needs root.
type network struct {
	name  string // of the bridge's namespace, and before those of the peers
	files []string
}

// networks counts them: what has been deleted is not gone at once.
var networks atomic.Int64

const subnet = "10.213.77."

func command(t testing.TB, words ...string) {
	t.Helper()
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	require.NoError(t, err, "%s (needs root, iproute2 and iptables): %s", strings.Join(words, " "), out)
}

// newNetwork connects n peers.
func newNetwork(t *testing.T, n int) *network {
	net := &network{name: fmt.Sprintf("peers%d-%d", os.Getpid(), networks.Add(1))}
	ip := func(words ...string) { command(t, append([]string{"ip"}, words...)...) }
	ip("netns", "add", net.name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", net.name).Run() })
	in := func(words ...string) { ip(append([]string{"-n", net.name}, words...)...) }
	in("link", "add", "bridge", "type", "bridge")
	in("link", "set", "bridge", "up")
	own := fmt.Sprintf("p%d-%d", os.Getpid(), networks.Load())
	ip("link", "add", own, "type", "veth", "peer", "name", "test", "netns", net.name)
	in("link", "set", "test", "master", "bridge", "up")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", own).Run() })
	ip("addr", "add", subnet+"254/24", "dev", own)
	ip("link", "set", own, "up")
	dir := t.TempDir()
	for self := range n {
		space := net.space(self)
		ip("netns", "add", space)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", space).Run() })
		in("link", "add", line(name(self)), "type", "veth", "peer", "name", "eth0", "netns", space)
		in("link", "set", line(name(self)), "master", "bridge", "up")
		ip("-n", space, "addr", "add", host(self)+"/24", "dev", "eth0")
		ip("-n", space, "link", "set", "eth0", "up")
		ip("-n", space, "link", "set", "lo", "up")
		var entries []any
		for other := range n {
			if other != self {
				entries = append(entries, map[string]any{"host": host(other), "port": 7001, "identifier": name(other)})
			}
		}
		net.files = append(net.files, write(t, filepath.Join(dir, name(self)+".json"), map[string]any{
			"identifier": name(self), "listen_host": host(self), "listen_port": 7001, "peers": entries,
		}))
	}
	return net
}

// line is the end of a peer's line at the bridge.
func line(id string) string { return "line-" + id }

func host(n int) string { return subnet + fmt.Sprint(n+1) }

func (n *network) space(peer int) string { return n.name + name(peer) }

// spawnAll starts a process in each namespace.
func (n *network) spawnAll(t *testing.T, mode string) (all []*process) {
	for peer, file := range n.files {
		all = append(all, spawn(t, file, mode, "ip", "netns", "exec", n.space(peer)))
	}
	return all
}

// cut takes the line of a peer away, and mend gives it back.
func (n *network) cut(t testing.TB, p *process) {
	command(t, "ip", "-n", n.name, "link", "set", line(p.id), "down")
}

func (n *network) mend(t testing.TB, p *process) {
	command(t, "ip", "-n", n.name, "link", "set", line(p.id), "up")
}

// drop drops what a peer sends, or a part of it.
func (n *network) drop(t testing.TB, p *process, which ...string) {
	rule := append([]string{"ip", "netns", "exec", n.name + p.id, "iptables", "-A", "OUTPUT", "-o", "eth0"}, which...)
	command(t, append(rule, "-j", "DROP")...)
}

// pass drops nothing any more.
func (n *network) pass(t testing.TB, p *process) {
	command(t, "ip", "netns", "exec", n.name+p.id, "iptables", "-F", "OUTPUT")
}
