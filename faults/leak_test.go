//go:build linux && faults

package faults_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testetcd"
)

func TestNothingIsLeftAfterFaults(t *testing.T) {
	etcd := startServers(t, 1)
	client := dial(t, etcd.urls()...)
	_, err := client.Get(t.Context(), "any")
	require.NoError(t, err)
	running := goleak.IgnoreCurrent()

	const n = 10
	lines := make([]*line, n)
	members := joinMany(t, n, func(i int) libcluster.Config {
		lines[i] = newLine(t, etcd.all[0])
		return libcluster.Config{Registry: libcluster.Etcd(lines[i].url()), TTL: shortTTL}
	})
	for _, l := range lines {
		l.cut(true, true)
	}
	lasts(2 * shortTTL) // all are fenced, and try in vain to come back
	for i, l := range lines {
		l.heal(i%2 == 0)
	}
	awaitWhole(t, patience, members)
	for _, l := range lines {
		l.reset()
	}
	for _, m := range members {
		require.NoError(t, m.Leave(t.Context()), "%s cannot leave", m.ID())
	}
	for _, l := range lines {
		l.end()
	}
	require.NoError(t, testetcd.Leaked(running), "after leaving")

	requireOnly(t, client, nil)
	// The leases of the incarnations that were fenced are left to expire.
	await(t, shortTTL+2*time.Second, "the last lease to go", func() bool {
		leases, err := client.Leases(t.Context())
		return err == nil && len(leases.Leases) == 0
	})
	got, err := client.Get(t.Context(), "", clientv3.WithPrefix(), clientv3.WithCountOnly())
	require.NoError(t, err)
	require.Zero(t, got.Count, "keys are left in the store")
}
