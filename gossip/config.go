package gossip

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/hostport"
)

// leastSecret is the length of the shortest secret, in bytes.
const leastSecret = 16

// defaultTTL is that of a member's record where Expect is set.
const defaultTTL = 3 * time.Second

// Config is a registry that needs no server: see the package's documentation. A Config is a
// value, which may serve any number of clusters and instances; but a port that Bind names can
// only serve one of them at a time.
type Config struct {
	// Bind is HOST:PORT, at which this instance listens, with UDP and TCP. Port 0 is any free
	// one, and HOST may be empty for all addresses. Default: the first of Seeds that is an
	// address of this machine and free. If none is free, any port of such an address, and if
	// none is this machine's, any port of all addresses. So all instances may have the same
	// Config.
	Bind string
	// Advertise is HOST:PORT, at which the others reach this instance, if that is not where it
	// listens: behind a NAT, or with an address that Bind does not name. Port 0 is the one
	// that it listens at. Required if Bind is [::], and if Bind is 0.0.0.0 on a machine without
	// a private address; otherwise found out, and if Bind is for all addresses found out anew
	// when this machine has it no more: the instance then joins again.
	Advertise string
	// Seeds are HOST:PORT of other instances, any of which is enough to find all. Names are
	// looked up again for as long as the instance runs, all addresses of a name count, and the
	// instance's own does no harm. An instance that reaches none of them starts a cluster of
	// its own, unless Expect is set, and goes on looking. Optional for the first instance.
	Seeds []string
	// Secret encrypts everything (AES-GCM): the first one encrypts, and all of them are tried to
	// decrypt, so that it can be replaced one instance after another. Each is a text of 16 bytes
	// at least, which should be random. Default: none. Then everybody who reaches the port can do
	// anything to the cluster; an instance that is not on loopback warns of that in the log.
	Secret []libcluster.Secret
	// Expect is the largest number of members that there ever are at the same time; passive
	// instances do not count. An instance then only acts while a majority of that number,
	// itself included, confirms that it has its record, so of two halves of a cluster at most
	// one acts. It costs a question and an answer to and from each other instance several times
	// a TTL, which is 3 s by default. If there are more members, two halves may both act, and
	// each instance warns of that in the log. Default: 0; instances that are cut off from one
	// another all go on acting.
	Expect int

	in *world // nil: the real one
}

// world is what tests put in the place of the network, the resolver and patience.
type world struct {
	listen func(at netip.AddrPort) (port, error)
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	now    func() time.Time
	probe  time.Duration // how often a node probes another one
	linger time.Duration // how long a node runs on whose session was closed
}

// realWorld is that of applications. Slower probes notice a stopped process later; faster ones
// take busy machines for dead: with 100 ms two busy cores lost 93 live nodes in 15 s.
var realWorld = world{
	listen: openSockets,
	lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	},
	now:    time.Now,
	probe:  200 * time.Millisecond,
	linger: 2 * time.Second,
}

func (c Config) world() *world {
	if c.in != nil {
		return c.in
	}
	return &realWorld
}

// String names the addresses.
func (c Config) String() string {
	if len(c.Seeds) == 0 {
		return "gossip at " + c.Bind
	}
	return "gossip with " + strings.Join(c.Seeds, ", ")
}

// validate finds what no retry can mend.
func (c Config) validate() error {
	if c.Bind == "" && len(c.Seeds) == 0 {
		return fmt.Errorf("gossip.Config.Bind: is missing, and there are no Seeds; give HOST:PORT, such as 0.0.0.0:7946")
	}
	if c.Bind != "" {
		host, _, err := hostport.Split(c.Bind, true)
		if err != nil {
			return fmt.Errorf("gossip.Config.Bind: %w", err)
		}
		if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() && ip.IsUnspecified() && c.Advertise == "" {
			return fmt.Errorf("gossip.Config.Advertise: is missing, and Bind is %q; say where the others reach this instance", c.Bind)
		}
	}
	if c.Advertise != "" {
		host, _, err := hostport.Split(c.Advertise, true)
		if err == nil {
			err = hostport.Reachable(host)
		}
		if err != nil {
			return fmt.Errorf("gossip.Config.Advertise: %w", err)
		}
	}
	for n, seed := range c.Seeds {
		host, _, err := hostport.Split(seed, false)
		if err == nil {
			err = hostport.Reachable(host)
		}
		if err != nil {
			return fmt.Errorf("gossip.Config.Seeds[%d]: %w", n, err)
		}
	}
	for n, secret := range c.Secret {
		if length := len(secret.Reveal()); length < leastSecret {
			return fmt.Errorf("gossip.Config.Secret[%d]: has %d bytes; give %d at least, at random", n, length, leastSecret)
		}
	}
	if c.Expect < 0 {
		return fmt.Errorf("gossip.Config.Expect: %d must be the number of members, or 0", c.Expect)
	}
	return nil
}

// resolve returns the addresses of a HOST:PORT, as they are now.
func (c Config) resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, port, err := hostport.Split(address, true)
	if err != nil {
		return nil, err
	}
	if host == "" {
		host = "0.0.0.0"
	}
	ips := make([]netip.Addr, 1)
	if ips[0], err = netip.ParseAddr(host); err != nil {
		if ips, err = c.world().lookup(ctx, host); err != nil {
			return nil, err
		}
	}
	var all []netip.AddrPort
	for _, ip := range ips {
		all = append(all, netip.AddrPortFrom(ip.Unmap(), port))
	}
	return all, nil
}

// majority is how many must confirm that they have a record, besides its own instance.
func (c Config) majority() int { return c.Expect / 2 }

// keyring returns what encrypts; nil: nothing does.
func (c Config) keyring() (*memberlist.Keyring, error) {
	if len(c.Secret) == 0 {
		return nil, nil
	}
	var keys [][]byte
	for _, secret := range c.Secret {
		key := sha256.Sum256([]byte("libcluster gossip\n" + secret.Reveal()))
		keys = append(keys, key[:])
	}
	return memberlist.NewKeyring(keys, keys[0])
}

// label is on everything that the nodes of a cluster send, and those of another cluster do not
// listen to it. With a secret it cannot be forged.
func label(cluster string) string {
	hash := sha256.Sum256([]byte(cluster))
	return base64.RawURLEncoding.EncodeToString(hash[:9])
}

// wantsSecret reports whether everybody on a network can reach an address.
func (c Config) wantsSecret(ip netip.Addr) bool { return len(c.Secret) == 0 && !ip.IsLoopback() }

// clone has what is given not change later.
func (c Config) clone() Config {
	c.Seeds, c.Secret = slices.Clone(c.Seeds), slices.Clone(c.Secret)
	return c
}
