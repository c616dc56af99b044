package peers

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/outlet"
)

const (
	maxVoters = 7

	// Shorter ones are missed on a busy machine: with 150 ms two cores with four busy loops
	// changed the leader 9 times a minute, and with 300 ms not once.
	defaultElection          = 300 * time.Millisecond
	minElection, maxElection = 100 * time.Millisecond, 10 * time.Second

	// The heartbeat is a tenth of the election timeout, and a member's record outlives ten
	// election timeouts, and so the loss of a leader.
	heartbeats, elections = 10, 10
	defaultTTL            = 3 * time.Second
)

// Peer is an instance whose process runs a server of the cluster.
type Peer struct {
	// ID is its name for people. Default: the address.
	ID string
	// Address is HOST:PORT, at which the other peers reach it. It is the peer's identity, and
	// has to be the same in the lists of all peers: a name is not its IP address, but localhost
	// is 127.0.0.1. Case does not matter, nor which form of an IP address it is, and an IPv6
	// address has no zone.
	Address string
	// Metadata is what the application wants to know of it.
	Metadata map[string]string
}

// TLS names PEM files. All peers, and the instances that are clients, prove to one another
// that the authorities in CA have signed their certificates, which must be good for servers
// and for clients, and name the host that stands in the lists. Cert and Key are read again
// for each connection.
type TLS struct{ Cert, Key, CA string }

// Config is a list of peers, and which of them this instance is. In JSON it is the file that
// [Load] reads.
type Config struct {
	// ID is this instance's name. Required.
	ID string
	// Listen is HOST:PORT, at which this instance's server listens for everything: for its
	// peers and for clients. Others reach it there too, unless Peers has an entry with this
	// instance's ID, which then says where: needed for a host such as 0.0.0.0. Default: none;
	// the instance has no server then, and is a client of its peers.
	Listen string
	// Metadata is this instance's own, for [Peers.Self].
	Metadata map[string]string
	// Peers are the other peers. An entry for this instance may be among them. Together with
	// this instance they are the voters: 1 to 7. Take 3 or 5, which survive the loss of 1 or 2;
	// 2 survive none, and 4 no more than 3, of which the log warns. The lists of all peers
	// must be the same, apart from order, ID and Metadata.
	Peers []Peer
	// DataDir is this instance's data folder, which should survive restarts. It is made if it
	// does not exist. Required if Listen is given; for a file the default is a folder beside it,
	// IDENTIFIER.data.
	//
	// It takes 4 MB at first. Later its log takes 12 MB, or what the last 10,000 writes take if
	// that is more. Its database takes what is in it, with the revisions of the last ten minutes,
	// and does not become smaller again, until it is full at 2 GB: then it is made smaller, and
	// until that is done there are two.
	DataDir string
	// TLS is used for all connections. Default: none; every program that reaches the port may
	// then do everything, as it may with an etcd without TLS. Listen on loopback, or on a
	// network of your own.
	TLS TLS
	// Election is how long the peers wait for their leader before they elect another one,
	// 100 ms to 10 s. The leader is heard of ten times in it. It has to be longer than a message
	// and its answer take between any two of them, or no leader lasts, and nobody can join: take
	// five times as long. Default: 300 ms, for peers in one region.
	Election time.Duration
	// Patient says that a peer which has ended is only noticed when its record expires, and
	// not because its port refuses connections, or another process answers there. Set it where
	// something between the peers answers in their place, such as a firewall that rejects.
	Patient bool
	// Logger receives what etcd itself logs at Warn and above, and why the server does not
	// start, at Warn. Nothing waits for it. Default: etcd is silent, and the rest goes to the
	// logger of the cluster whose joining starts the server.
	Logger *zap.Logger

	file string // that it was read from
}

// Client returns the configuration of an instance that has no server, and is a client of all
// peers, the one included that c is for.
func (c Config) Client() Config {
	entry := func(p Peer) bool { return p.ID == c.ID }
	if c.Listen != "" && !slices.ContainsFunc(c.Peers, entry) {
		c.Peers = append(slices.Clone(c.Peers), Peer{ID: c.ID, Address: c.Listen, Metadata: c.Metadata})
	}
	c.Listen = ""
	return c
}

// at names a field for people, as the file has it or as Config has it.
func (c Config) at(inFile, inGo string) string {
	if c.file == "" {
		return inGo
	}
	return c.file + ": " + inFile
}

func (c Config) atPeer(n int, inFile, inGo string) string {
	return c.at(fmt.Sprintf("peers[%d].%s", n, inFile), fmt.Sprintf("Peers[%d].%s", n, inGo))
}

// withDefaults returns the configuration with its defaults, and with Peers without this
// instance; self is this instance's own entry.
func (c Config) withDefaults() (_ Config, self Peer, err error) {
	if c.ID == "" {
		return c, self, fmt.Errorf("%s: is missing; give this instance a name", c.at("identifier", "ID"))
	}
	self = Peer{ID: c.ID, Metadata: maps.Clone(c.Metadata)}
	if c, self, err = c.split(self); err != nil {
		return c, self, err
	}
	if err := c.resolve(&self); err != nil {
		return c, self, err
	}
	if c.Election == 0 {
		c.Election = defaultElection
	}
	if c.Election < minElection || c.Election > maxElection {
		return c, self, fmt.Errorf("%s: %v must be %v to %v", c.at("election", "Election"), c.Election, minElection, maxElection)
	}
	if t := c.TLS; t != (TLS{}) && (t.Cert == "" || t.Key == "" || t.CA == "") {
		return c, self, fmt.Errorf("%s: give cert, key and ca, or none of them", c.at("tls", "TLS"))
	}
	if c.Logger != nil {
		c.Logger = outlet.Logger(c.Logger)
	}
	return c, self, nil
}

// split takes this instance's own entry out of Peers, and refuses what is there twice.
func (c Config) split(self Peer) (Config, Peer, error) {
	var others []Peer
	ids, addresses := map[string]int{}, map[string]int{}
	for n, peer := range c.Peers {
		address, err := canonical(peer.Address)
		if err != nil {
			return c, self, fmt.Errorf("%s: %w", c.atPeer(n, "host, port", "Address"), err)
		}
		peer.Address, peer.Metadata = address, maps.Clone(peer.Metadata)
		if peer.ID == "" {
			peer.ID = address
		}
		if before, ok := addresses[address]; ok {
			return c, self, fmt.Errorf("%s: %s is that of entry %d already; remove one of them",
				c.atPeer(n, "host, port", "Address"), address, before)
		}
		if before, ok := ids[peer.ID]; ok {
			return c, self, fmt.Errorf("%s: %q is that of entry %d already; give each peer its own",
				c.atPeer(n, "identifier", "ID"), peer.ID, before)
		}
		ids[peer.ID], addresses[address] = n, n
		if peer.ID == c.ID && c.Listen != "" {
			self.Address = address
			if self.Metadata == nil {
				self.Metadata = peer.Metadata
			}
			continue
		}
		others = append(others, peer)
	}
	c.Peers = others
	return c, self, nil
}

// resolve finds where this instance listens and is reached.
func (c *Config) resolve(self *Peer) error {
	if c.Listen == "" {
		if len(c.Peers) == 0 {
			return fmt.Errorf("%s: there are none, and this instance has no server of its own (%s); give it one of them at least",
				c.at("peers", "Peers"), c.at("listen_port", "Listen"))
		}
		self.Address = ""
		return nil
	}
	host, port, err := splitAddress(c.Listen)
	if err != nil {
		return fmt.Errorf("%s: %w", c.at("listen_host, listen_port", "Listen"), err)
	}
	if self.Address == "" {
		if wild(host) {
			return fmt.Errorf("%s: %q does not say where the others reach this instance; add an entry with its own name, %q, to the peers, as the others have it",
				c.at("listen_host", "Listen"), host, c.ID)
		}
		self.Address = net.JoinHostPort(host, port)
	}
	c.Listen = net.JoinHostPort(host, port)
	for n, peer := range c.Peers {
		if peer.Address == self.Address {
			return fmt.Errorf("%s: %s is this instance's own address, under another name than %q; use one name",
				c.at("peers", fmt.Sprintf("Peers[%d].Address", n)), peer.Address, c.ID)
		}
	}
	if n := 1 + len(c.Peers); n > maxVoters {
		return fmt.Errorf("%s: %d peers with this one, and there can be %d; let the others be clients, without %s",
			c.at("peers", "Peers"), n, maxVoters, c.at("listen_port", "Listen"))
	}
	if c.DataDir == "" {
		return fmt.Errorf("%s: is missing; name a folder that is there after a restart", c.at("data_dir", "DataDir"))
	}
	c.DataDir, err = filepath.Abs(c.DataDir) // the process may change its directory
	return err
}

// canonical checks the address of a peer, which others have to reach.
func canonical(address string) (string, error) {
	host, port, err := splitAddress(address)
	if err == nil && wild(host) {
		err = fmt.Errorf("host %q is none that others can reach; give a name or an address", host)
	}
	return net.JoinHostPort(host, port), err
}

// splitAddress returns the one form of a host and a port: an address that is written in two ways
// would be two voters.
func splitAddress(address string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(address)
	if err != nil {
		return "", "", fmt.Errorf("%q must be HOST:PORT", address)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", "", fmt.Errorf("port %q must be 1 to 65535", port)
	}
	host = strings.ToLower(host)
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	switch {
	case host == "localhost":
		host = "127.0.0.1"
	case strings.ContainsAny(host, "/=,@?% \t\n"): // % is before a zone, which another machine does not know
		return "", "", errors.New("the host must be a name or an address only")
	}
	return host, strconv.FormatUint(n, 10), nil
}

// wild reports whether a host means every address of this machine.
func wild(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// ttl is the default of a member's record.
func (c Config) ttl() time.Duration { return max(defaultTTL, elections*c.Election) }

// addresses returns those of all voters, sorted.
func (c Config) addresses(self Peer) []string {
	var all []string
	if self.Address != "" {
		all = append(all, self.Address)
	}
	for _, peer := range c.Peers {
		all = append(all, peer.Address)
	}
	slices.Sort(all)
	return all
}
