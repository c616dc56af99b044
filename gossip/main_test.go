package gossip_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
	"github.com/libcluster/libcluster/internal/testhost"
)

// patience bounds every wait in these tests.
const patience = 2 * time.Minute

// calm probes are so slow that no busy machine is taken for a dead one.
const calm = 3 * time.Second

func TestMain(m *testing.M) {
	if seeds := os.Getenv(childEnv); seeds != "" {
		child(seeds)
	}
	testhost.Parallel(atOnce)
	status := m.Run()
	if status == 0 {
		var leak error
		for end := time.Now().Add(patience); time.Now().Before(end); {
			if leak = goleak.Find(); leak == nil {
				break
			}
		}
		if leak != nil {
			fmt.Fprintln(os.Stderr, leak)
			status = 1
		}
	}
	os.Exit(status)
}

// addresses returns several.
func addresses(t testing.TB, n int) (all []string) {
	for range n {
		all = append(all, testhost.FreeAddress(t))
	}
	return all
}

// newCluster returns an instance of the tests' cluster.
func newCluster(t testing.TB, id string, registry gossip.Config, change ...func(*libcluster.Config)) *libcluster.Cluster {
	config := libcluster.Config{Key: "gossip-test", ID: id, Registry: registry}
	for _, f := range change {
		f(&config)
	}
	c, err := libcluster.New(config)
	require.NoError(t, err)
	return c
}

// join joins, and leaves when the test ends.
func join(t testing.TB, c *libcluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, c.Join(ctx))
	t.Cleanup(func() { leave(t, c) })
}

func leave(t testing.TB, c *libcluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, c.Leave(ctx))
}

// joined is newCluster and join.
func joined(t testing.TB, id string, registry gossip.Config, change ...func(*libcluster.Config)) *libcluster.Cluster {
	t.Helper()
	c := newCluster(t, id, registry, change...)
	join(t, c)
	return c
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, patience, 5*time.Millisecond, "%s", what)
}

// sees waits until an instance sees these members.
func sees(t testing.TB, c *libcluster.Cluster, ids ...string) {
	t.Helper()
	want := fmt.Sprint(ids)
	if !assert.Eventually(t, func() bool { return fmt.Sprint(members(c)) == want }, patience, 5*time.Millisecond) {
		require.Equal(t, want, fmt.Sprint(members(c)), "the members, and %v", c.Err())
	}
}

func members(c *libcluster.Cluster) (ids []string) {
	for _, m := range c.Members() {
		ids = append(ids, m.ID)
	}
	return ids
}
