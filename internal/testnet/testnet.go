//go:build linux

// Package testnet connects processes of tests by a network that can be cut. It needs root.
package testnet

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// Network is of hosts that have a network namespace each, at a bridge in another one.
type Network struct {
	testing.TB
	name string // of the bridge's namespace, and before those of the hosts
}

// networks counts them: what has been deleted is not gone at once.
var networks atomic.Int64

// subnet is that of all networks, which do not know each other.
const subnet = "10.213.77."

// Address returns that of a host; hosts count from 0.
func Address(host int) string { return subnet + fmt.Sprint(host+1) }

// New connects hosts, until the test has ended.
func New(t testing.TB, hosts int) *Network {
	t.Helper()
	n := &Network{t, fmt.Sprintf("test%d-%d", os.Getpid(), networks.Add(1))}
	n.add(n.name)
	Run(n, "ip", "-n", n.name, "link", "add", "bridge", "type", "bridge")
	Run(n, "ip", "-n", n.name, "link", "set", "bridge", "up")
	for host := range hosts {
		space := n.space(host)
		n.add(space)
		Run(n, "ip", "-n", n.name, "link", "add", line(host), "type", "veth", "peer", "name", "eth0", "netns", space)
		Run(n, "ip", "-n", n.name, "link", "set", line(host), "master", "bridge", "up")
		Run(n, "ip", "-n", space, "addr", "add", Address(host)+"/24", "dev", "eth0")
		Run(n, "ip", "-n", space, "link", "set", "eth0", "up")
		Run(n, "ip", "-n", space, "link", "set", "lo", "up")
	}
	return n
}

func (n *Network) add(space string) {
	n.Helper()
	Run(n, "ip", "netns", "add", space)
	n.Cleanup(func() { _ = exec.Command("ip", "netns", "del", space).Run() })
}

// Join gives this process a line to the network, too. Such a line is in the machine's own namespace,
// where two could not be told apart: Join waits for the end of any other network that has one.
func (n *Network) Join() {
	n.Helper()
	lock, err := os.OpenFile("/run/libcluster-testnet", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		n.Fatalf("the lock of the machine's line to a network: %v", err)
	}
	n.Cleanup(func() { lock.Close() })
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		n.Fatalf("lock %s: %v", lock.Name(), err)
	}
	own := "t" + strings.TrimPrefix(n.name, "test")
	Run(n, "ip", "link", "add", own, "type", "veth", "peer", "name", "test", "netns", n.name)
	n.Cleanup(func() { _ = exec.Command("ip", "link", "del", own).Run() })
	Run(n, "ip", "-n", n.name, "link", "set", "test", "master", "bridge", "up")
	Run(n, "ip", "addr", "add", subnet+"254/24", "dev", own)
	Run(n, "ip", "link", "set", own, "up")
}

// Run runs a command, which must not fail.
func Run(t testing.TB, words ...string) {
	t.Helper()
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s (needs root, iproute2 and iptables): %v: %s", strings.Join(words, " "), err, out)
	}
}

// line is the end of a host's line at the bridge.
func line(host int) string { return fmt.Sprint("line-", host) }

func (n *Network) space(host int) string { return fmt.Sprint(n.name, "-", host) }

// On returns the words that come before a command that shall run on a host.
func (n *Network) On(host int) []string { return []string{"ip", "netns", "exec", n.space(host)} }

// Cut takes the line of a host away, and Mend gives it back.
func (n *Network) Cut(host int)  { Run(n, "ip", "-n", n.name, "link", "set", line(host), "down") }
func (n *Network) Mend(host int) { Run(n, "ip", "-n", n.name, "link", "set", line(host), "up") }

// Rule adds a rule to a host's firewall, as iptables has it.
func (n *Network) Rule(host int, rule ...string) {
	n.Helper()
	Run(n, append(append(n.On(host), "iptables", "-A"), rule...)...)
}

// Pass takes all rules of a host's firewall away.
func (n *Network) Pass(host int) {
	n.Helper()
	Run(n, append(n.On(host), "iptables", "-F")...)
}
