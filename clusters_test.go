package libcluster_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testcluster"
	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/kv/kvtest"
)

func TestClustersAreToldFromWhatElseIsInAStore(t *testing.T) {
	t.Parallel()
	store := kvtest.NewMemory()
	registry := libcluster.OnStore(store)
	for _, c := range []libcluster.Config{
		{Key: "other", Env: "production"},
		{Key: "mailer", Env: "test", Partition: "north", Mode: libcluster.ModeCooperative},
		{Key: "mailer", Env: "production", Mode: libcluster.ModePlanned},
		{Key: "mailer2", Env: "production"},
	} {
		c.Registry = registry
		testcluster.Start(t, c)
	}
	write := func(space string, lease bool, key, value string) {
		s, err := store.Open(t.Context(), space)
		require.NoError(t, err)
		defer s.Close()
		_, err = s.Begin(t.Context(), 1, time.Hour)
		require.NoError(t, err)
		r := kv.Record{Key: key, Value: []byte(value)}
		if lease {
			r.Owner = 1
		}
		_, err = s.Commit(t.Context(), kv.Tx{Put: []kv.Record{r}})
		require.NoError(t, err)
	}
	write("mailer", true, "a", "1")
	write("a/b/c/d", true, "a", "1")
	write("mailer/", true, "a", "1")
	write("nobody/production", false, "a", "1")
	write("foreign/production", true, "a", "no number")
	write("foreign/test", true, "a/b", "1")

	mailer := []libcluster.ClusterName{
		{Key: "mailer", Env: "production", Mode: libcluster.ModePlanned},
		{Key: "mailer", Partition: "north", Env: "test", Mode: libcluster.ModeCooperative},
	}
	found, err := libcluster.Clusters(t.Context(), registry, "")
	require.NoError(t, err)
	require.Equal(t, append(mailer, libcluster.ClusterName{Key: "mailer2", Env: "production"}, libcluster.ClusterName{Key: "other", Env: "production"}), found)
	found, err = libcluster.Clusters(t.Context(), registry, "mailer")
	require.NoError(t, err)
	require.Equal(t, mailer, found)
	_, err = libcluster.Clusters(t.Context(), registry, "a/b")
	require.ErrorContains(t, err, `Key "a/b"`)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = libcluster.Clusters(over, registry, "")
	require.ErrorIs(t, err, context.Canceled)
}

func TestRegistryWithoutAListOfClustersSaysSo(t *testing.T) {
	t.Parallel()
	for _, registry := range []libcluster.Registry{
		libcluster.Static(0, 1), libcluster.OnStore(struct{ kv.Store }{kvtest.NewMemory()}),
	} {
		_, err := libcluster.Clusters(t.Context(), registry, "")
		require.ErrorIs(t, err, kv.ErrNoList)
	}
}
