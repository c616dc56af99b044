package registrytest_test

import (
	"testing"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/registrytest"
)

func TestStaticKeepsThePromises(t *testing.T) {
	registrytest.Run(t, registrytest.Harness{
		Open: func(*testing.T) libcluster.Registry { return libcluster.Static(1, 4) },
	})
}
