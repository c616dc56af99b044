//go:build faults && linux

package heartbeats_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/internal/testnet"
	"github.com/libcluster/libcluster/kv"
)

// The cases of isolation_test.go on real sockets, whose calls fail when a line is down and when a
// firewall drops or refuses. All processes reach the folder.

// party is three instances on a host each.
type party struct {
	*testing.T
	net   *testnet.Network
	space kv.Space
	all   []*process // by their hosts; the first is the primary
	ended int        // leases that were ended by others, as exchange was told
}

func newParty(t *testing.T, requires bool) *party { return partyAt(t, requires, testnet.Address) }

// partyAt has each listen at an address.
func partyAt(t *testing.T, requires bool, at func(host int) string) *party {
	p := &party{T: t, net: testnet.New(t, 3)}
	dir := shm(t)
	for host, id := range []string{"a", "b", "c"} {
		p.address(host, testnet.Address(host))
		p.all = append(p.all, spawn(t, role{
			Dir: dir, ID: id, Bind: at(host) + ":44330", Require: requires, Mode: libcluster.ModePlanned, TTL: ttl,
		}, p.net.On(host)...))
		p.all[host].until(host, host+1)
	}
	for host := range 2 {
		p.all[host].until(host, 3)
	}
	p.exchange() // so each knows all others
	p.exchange() // and has heard them
	var err error
	p.space, err = dirstore.Dir(dir).Open(patience(t), "company/"+libcluster.DefaultEnv)
	require.NoError(t, err)
	t.Cleanup(func() { p.space.Close() })
	return p
}

// address gives a host another address, as DHCP may.
func (p *party) address(host int, address string) {
	for _, command := range []string{"addr flush dev eth0", "addr add " + address + "/24 dev eth0", "route add default dev eth0"} {
		testnet.Run(p, append(p.net.On(host), append([]string{"ip"}, strings.Fields(command)...)...)...)
	}
}

// exchange has each send to all others.
func (p *party) exchange() {
	p.Helper()
	for _, one := range p.all {
		one.exchange(2)
	}
	for _, one := range p.all {
		one.await(exchanged, func(s said) bool {
			if strings.HasPrefix(s.log, "the lease of another instance was ended") {
				p.ended++
			}
			return s.log == exchanged
		})
	}
}

// leases are those of a, b and c.
func (p *party) leases() (all [3]kv.Owner) {
	p.Helper()
	for host, id := range []string{"a", "b", "c"} {
		r, _, err := p.space.Get(patience(p), id)
		require.NoError(p, err)
		require.NotZero(p, r.Owner)
		all[host] = r.Owner
	}
	return all
}

// says waits until a process has logged a message, and has not been told of any index before.
func (p *party) says(who *process, message string) {
	p.Helper()
	who.await(message, func(s said) bool {
		require.NotEmpty(p, s.log, "it is told of index %d of %d", s.index, s.total)
		return strings.HasPrefix(s.log, message)
	})
}

var (
	outward = []string{"OUTPUT", "-o", "eth0", "-j", "DROP"}
	inward  = []string{"INPUT", "-i", "eth0", "-j", "DROP"}
	refused = []string{"INPUT", "-i", "eth0", "-p", "udp", "-j", "REJECT", "--reject-with", "icmp-port-unreachable"}
)

// A firewall that refuses is to each of the others like a process that has ended, once.
func TestPrimaryThatTheOthersDoNotHearIsPutOut(t *testing.T) {
	for _, test := range []struct {
		name string
		cut  func(*testnet.Network)
		most int // how often it is put out at the most
		deaf bool
	}{
		{"its line is down", func(n *testnet.Network) { n.Cut(0) }, 1, true},
		{"what it sends is dropped", func(n *testnet.Network) { n.Rule(0, outward...) }, 1, false},
		{"its port refuses", func(n *testnet.Network) { n.Rule(0, refused...) }, 2, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newParty(t, false)
			test.cut(p.net)
			primary, stops, back := p.all[0], 1, false
			primary.stops()
			if test.deaf {
				primary.await("it is back, and is still cut off", func(s said) bool {
					if s.log == "" {
						back = s.index >= 0
					}
					if s.index == -1 {
						stops++
					}
					return back && strings.HasPrefix(s.log, fewAreHeard)
				})
			} else {
				primary.await("it is back", func(s said) bool { return s.log == "" && s.index >= 0 && s.total == 3 })
				p.exchange()
			}
			require.LessOrEqual(t, stops, test.most)
			leases := p.leases()
			p.net.Mend(0)
			p.net.Pass(0)
			if test.deaf {
				primary.await(mostAreHeard, func(s said) bool { return strings.HasPrefix(s.log, mostAreHeard) })
			}
			require.Equal(t, leases, p.leases())
		})
	}
}

// The others hear it, so nothing happens to it.
func TestPrimaryThatHearsNobodyStays(t *testing.T) {
	t.Parallel()
	p := newParty(t, false)
	leases := p.leases()
	p.net.Rule(0, inward...)
	p.says(p.all[0], fewAreHeard)
	p.net.Pass(0)
	p.says(p.all[0], mostAreHeard)
	require.Equal(t, leases, p.leases())
}

func TestPrimaryStaysWhenAllLinesAreDown(t *testing.T) {
	t.Parallel()
	p := newParty(t, false)
	leases := p.leases()
	for host := range p.all {
		p.net.Cut(host)
	}
	for _, one := range p.all {
		p.says(one, fewAreHeard)
	}
	for host := range p.all {
		p.net.Mend(host)
	}
	for _, one := range p.all {
		p.says(one, mostAreHeard)
	}
	require.Equal(t, leases, p.leases())
}

func TestAllStepDownWhenAllLinesAreDown(t *testing.T) {
	t.Parallel()
	p := newParty(t, true)
	for host := range p.all {
		p.net.Cut(host)
	}
	for _, one := range p.all {
		one.stops()
	}
	for _, one := range p.all { // nobody acts in between
		for len(one.lines) > 0 {
			s := <-one.lines
			require.False(t, s.log == "" && s.index >= 0, "it is told of index %d of %d", s.index, s.total)
		}
	}
	for host := range p.all {
		p.net.Mend(host)
	}
	for _, one := range p.all {
		one.await("an index of three", func(s said) bool { return s.index >= 0 && s.total == 3 })
	}
}

// Each of three is refused by another one's firewall, which it hears nevertheless. Each lease is ended
// by mistake once, and its process, which has another one then, must not make its own mistake again.
func TestProcessesThatEndOneAnothersLeasesComeToAnEnd(t *testing.T) {
	t.Parallel()
	p := newParty(t, false)
	for host := range p.all {
		// Linux tells a host of one refusal a second. With a TTL of 40 s it would be told of each.
		testnet.Run(t, append(p.net.On(host), "sysctl", "-q", "net.ipv4.icmp_ratelimit=0")...)
		from := testnet.Address((host + 2) % len(p.all))
		p.net.Rule(host, "INPUT", "-s", from, "-p", "udp", "-j", "REJECT", "--reject-with", "icmp-port-unreachable")
	}
	for range 20 {
		p.exchange()
	}
	require.LessOrEqual(t, p.ended, len(p.all))
}

// An address that was found out, and not given, is found out anew when the others are not heard.
func TestInstanceIsHeardAgainWhoseAddressHasChanged(t *testing.T) {
	for _, requires := range []bool{false, true} {
		t.Run(fmt.Sprint("required: ", requires), func(t *testing.T) {
			t.Parallel()
			p := partyAt(t, requires, func(int) string { return "0.0.0.0" })
			leases := p.leases()
			p.address(0, testnet.Address(100))
			if requires {
				p.all[0].stops()
				p.all[0].await("an index of three", func(s said) bool { return s.index >= 0 && s.total == 3 })
				return
			}
			p.says(p.all[0], fewAreHeard)
			p.says(p.all[0], mostAreHeard)
			require.Equal(t, leases, p.leases())
		})
	}
}
