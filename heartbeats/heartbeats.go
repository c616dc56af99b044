// Package heartbeats has the instances on a store send each other small packets by UDP, beside
// the store. A process that was killed is then noticed at once and not after the TTL, and so is a
// change on a store that has to be looked at again and again.
//
//	store := heartbeats.Beside(dirstore.Dir("/shared/cluster"), heartbeats.Config{Bind: ":44330"})
//	cluster, err := libcluster.New(libcluster.Config{
//		Key:      "mailer",
//		Registry: libcluster.OnStore(store),
//	})
//
// The store decides as before, and every mode works as before. Heartbeats only do this:
//
//   - An instance that has changed something tells the others, who look at once, on a store that
//     can be told to: dirstore and sqlstore can.
//   - When the port of an instance refuses packets, its process has ended, and the first
//     instance that notices ends its lease. That takes about a twentieth of the TTL, divided by how many there are.
//   - When an instance was heard once and is silent for a quarter of its TTL, those accuse it that
//     hear more than half of the rest. If more than half of all others accuse it, they end
//     its lease. It joins anew, and so in the modes with a plan it comes back last, unless it
//     is back before there is a plan without it: then it keeps its assignment. Until it is
//     heard again nobody accuses it, so it is not put out twice.
//
// So if heartbeats fail for all, nobody accuses anybody, and all stay what they are: a crash is
// noticed after the TTL again. With Config.Require all step down instead.
//
// Of two instances neither is put out for being silent: nobody could tell which of them is cut
// off. A lease that was ended by mistake costs a rejoin. Until the instance has found out, within
// a sixth of the TTL, two may act in direct and planned mode; in exclusive and cooperative mode
// never, since no proof there uses the end of a lease.
//
// # What it needs
//
// A port for UDP in each process, which the others can reach. An instance says in the store where
// it listens. Instances with and without heartbeats may be mixed: those without are not judged.
//
// # What it costs
//
// Each instance sends 20 packets of 50 bytes in the time of a TTL to each other one, and has one
// socket and one goroutine for each, and one more watch of the store.
//
// # Who can forge it
//
// What is sent is not secret, and each packet is authenticated with a key that is in the store, a new
// one each time a process opens its port. So a program that can read the store can forge heartbeats, and have
// the leases of a cluster ended. A program that cannot read it can have the store looked at more often, up to 100
// times in a TTL. A program that can forge a kernel's answer that a port is closed can cost each
// process one rejoin for each of the others, as can a firewall that refuses.
package heartbeats

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/hostport"
	"github.com/libcluster/libcluster/internal/outlet"
	"github.com/libcluster/libcluster/kv"
)

// ErrIsolated means that an instance hears too few of the others to act, where Config.Require
// is set.
var ErrIsolated = errors.New("too few of the others' heartbeats are heard")

// Config says how heartbeats are sent and heard.
type Config struct {
	// Bind is HOST:PORT, at which this process listens, with UDP. HOST may be empty for all
	// addresses, and port 0 is any free one. Default: ":0".
	Bind string
	// Advertise is HOST:PORT, at which the others reach this process, if that is not where it
	// listens: behind a NAT, or with an address that Bind does not name. Port 0 is the one that
	// it listens at. Default: the host of Bind, or if that is none, the machine's private
	// address.
	Advertise string
	// Require has an instance step down that hears less than half of the others, so that it and
	// those that it hears are no majority: within a quarter of the TTL for that and a sixth to be
	// told. It joins again when it hears them again. Nobody accepts less when it joins
	// either; so if heartbeats fail for all, nobody acts. Without it nobody steps down for
	// what he hears. It must be the same in all instances.
	Require bool
	// Logger is told whose leases are ended and why, at Debug who is heard for the first time,
	// and at Warn when too few of the others are heard. It may block: nothing waits for it. Default: nothing is logged.
	Logger *zap.Logger
}

// check finds what no retry can mend.
func (c Config) check() error {
	if _, _, err := hostport.Split(c.Bind, true); err != nil {
		return fmt.Errorf("heartbeats.Config.Bind: %w", err)
	}
	if c.Advertise == "" {
		return nil
	}
	host, _, err := hostport.Split(c.Advertise, true)
	if err == nil {
		err = hostport.Reachable(host)
	}
	if err != nil {
		return fmt.Errorf("heartbeats.Config.Advertise: %w", err)
	}
	return nil
}

// Store is a store with heartbeats beside it. Any goroutine may use it, and all its clusters
// share a port, which is open while one of them is joined.
//
// The first lease that is begun in a space, each time the space is opened, has heartbeats, and
// its first record says in the store where. Others, which outlive their process on purpose, have none.
type Store struct {
	inner    kv.Store
	config   Config
	network  network
	log      *zap.Logger
	refusals *refusals

	mu      sync.Mutex          // guards what follows
	port    *port               // nil: nobody listens
	waiting map[string]kv.Owner // leases by which attempts to join were seen that waited, by space
}

var _ kv.Lister = (*Store)(nil)

// Beside returns a store with heartbeats. It does nothing yet. What is wrong with the
// configuration, or with the port, the first Begin says: its error wraps [kv.ErrRefused].
func Beside(store kv.Store, c Config) *Store {
	if c.Bind == "" {
		c.Bind = ":0"
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return &Store{inner: store, config: c, network: udp(), log: outlet.Logger(c.Logger), refusals: newRefusals(), waiting: map[string]kv.Owner{}}
}

// String returns what the store itself is called.
func (s *Store) String() string {
	if named, ok := s.inner.(fmt.Stringer); ok {
		return named.String()
	}
	return "a store"
}

// Open opens a space.
func (s *Store) Open(ctx context.Context, name string) (kv.Space, error) {
	opened, err := s.inner.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &space{Space: opened, store: s, name: name, closing: make(chan struct{})}, nil
}

// Spaces returns what the store itself lists, if it can.
func (s *Store) Spaces(ctx context.Context) ([]string, error) {
	if lister, can := s.inner.(kv.Lister); can {
		return lister.Spaces(ctx)
	}
	return nil, fmt.Errorf("listing spaces: %w", kv.ErrNoList)
}

// looker is a store whose watches can be told to look at once. Look does not block.
type looker interface{ Look(space string) }

// look has all watches of a space look for changes.
func (s *Store) look(name string) {
	if l, ok := s.inner.(looker); ok {
		l.Look(name)
	}
}
