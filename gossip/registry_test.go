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
	return config.Enter(r)
}

func conformance(t *testing.T, config gossip.Config) {
	registrytest.Run(t, registrytest.Harness{
		Open: func(t *testing.T) libcluster.Registry {
			return &spread{t: t, with: config.In(gossip.World{Probe: calm, Linger: time.Minute}), seeds: map[string][]string{}}
		},
		Heavy: true, // each has a node, and each node speaks to all others
	})
}

func TestGossipKeepsThePromisesOfARegistry(t *testing.T) { conformance(t, gossip.Config{}) }
