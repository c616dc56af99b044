package gossip_test

import (
	"sync"
	"testing"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
	"github.com/libcluster/libcluster/registrytest"
)

// spread has seeds of its own for each cluster, and a node of its own for each instance.
type spread struct {
	t     *testing.T
	with  gossip.Config
	mu    sync.Mutex // guards what follows
	seeds map[string][]string
}

func (s *spread) Capabilities() libcluster.Capabilities { return s.with.Capabilities() }

func (s *spread) Enter(r libcluster.Registration) (libcluster.Membership, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seeds[r.Cluster()] == nil {
		s.seeds[r.Cluster()] = addresses(s.t, 3)
	}
	config := s.with
	config.Seeds = s.seeds[r.Cluster()]
	m, err := config.Enter(r)
	s.t.Cleanup(func() { gossip.StopLingering(m) })
	return m, err
}

// The node of a session that was closed lives on for a minute: it has to hear that its ID was
// taken, on a slow machine too.
func TestGossipKeepsThePromisesOfARegistry(t *testing.T) {
	config := gossip.Config{}.In(gossip.World{Probe: calm, Linger: time.Minute})
	registrytest.Run(t, registrytest.Harness{
		Open: func(t *testing.T) libcluster.Registry {
			return &spread{t: t, with: config, seeds: map[string][]string{}}
		},
		Heavy: true, // each has a node, and each node speaks to all others
	})
}
