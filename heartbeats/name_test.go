package heartbeats_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/heartbeats"
)

// A machine may have an IPv6 address too at which the process does not listen.
func TestNameIsHeardAtTheAddressThatDoesNotRefuse(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	for _, id := range []string{"a", "b"} {
		store := heartbeats.Beside(dirstore.Dir(dir), heartbeats.Config{Bind: "127.0.0.1:0", Advertise: "machine.test:0", Require: true})
		store.Lookup(netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1"))
		c, err := libcluster.New(libcluster.Config{Key: "company", ID: id, TTL: ttl, Registry: libcluster.OnStore(store), Logger: zap.NewNop()})
		require.NoError(t, err)
		require.NoError(t, c.Join(patience(t)), "it must hear the other, and be heard")
		defer c.Leave(patience(t))
	}
}
