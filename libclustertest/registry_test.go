package libclustertest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
	"github.com/libcluster/libcluster/registrytest"
)

// harness is the in-memory registry, with strangers that use its own methods.
func harness() registrytest.Harness {
	return registrytest.Harness{
		Open: func(*testing.T) libcluster.Registry { return libclustertest.New() },
		Put: func(_ context.Context, r libcluster.Registry, cluster, id string, record []byte) error {
			r.(*libclustertest.Registry).Put(cluster, id, record)
			return nil
		},
		Delete: func(_ context.Context, r libcluster.Registry, cluster, id string) error {
			r.(*libclustertest.Registry).Delete(cluster, id)
			return nil
		},
		TTL: 5 * time.Second,
	}
}

func TestRegistryKeepsThePromisesInRealTime(t *testing.T) {
	t.Parallel()
	registrytest.Run(t, harness())
}

func TestRegistryKeepsThePromisesInVirtualTime(t *testing.T) {
	h := harness()
	h.TTL = 24 * time.Hour // in no time at all
	h.Around = synctest.Test
	registrytest.Run(t, h)
}

// The suite opens a registry for each test. A user's may serve them all.
func TestOneRegistryServesManyClustersAtOnce(t *testing.T) {
	t.Parallel()
	h, shared := harness(), libclustertest.New()
	h.Open = func(*testing.T) libcluster.Registry { return shared }
	registrytest.Run(t, h)
}

// The package's example is a test, and examples are not run with a testing.T.
func TestExample(t *testing.T) { mailerPausesWhileCutOff(t) }
