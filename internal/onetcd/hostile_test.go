package onetcd_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
)

// What the coordinator's key names is no instance if it could not be one's ID.
func TestOnlyWhatCanBeAnIDIsWaitedFor(t *testing.T) {
	cluster, client := key(t), etcdClient(t)
	prefix := "/" + cluster + "/production/"
	lease, err := client.Grant(t.Context(), 600)
	require.NoError(t, err)
	_, err = client.Put(t.Context(), prefix+"/p/coordinator",
		"planned\tnobody\n1\t\x1b[2J\n2\tslow\n3\t\n4\ta/b\n5\tc\r\n", clientv3.WithLease(lease.ID))
	require.NoError(t, err)
	i := prepare(t, libcluster.Config{Key: cluster, Mode: libcluster.ModePlanned})
	joining, end := context.WithCancel(t.Context())
	defer end()
	joined := make(chan error)
	go func() { joined <- i.Join(joining) }()
	require.Eventually(t, func() bool { return len(i.Blockers()) > 0 }, patience, time.Millisecond)
	require.Equal(t, []libcluster.Blocker{{ID: "slow", Since: time.UnixMilli(2)}}, i.Blockers())
	end()
	err = <-joined
	require.ErrorContains(t, err, "the others wait for slow to stop")
	for _, r := range err.Error() {
		require.True(t, unicode.IsPrint(r), "%q in %q", r, err)
	}
}

// ignored are the keys that instances have logged as foreign, once one of them, that is
// put now, has been.
func ignored(t *testing.T, client *clientv3.Client, prefix string, logs *observer.ObservedLogs) (keys []string) {
	t.Helper()
	last := prefix + fmt.Sprint("zz", time.Now().UnixNano())
	_, err := client.Put(t.Context(), last, "the last")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		keys = nil
		for _, line := range logs.FilterMessageSnippet("ignoring").All() {
			keys = append(keys, fmt.Sprint(line.ContextMap()["key"]))
		}
		return slices.Contains(keys, fmt.Sprintf("%q", last))
	}, patience, time.Millisecond)
	return keys[:len(keys)-1]
}

// What libcluster writes for a plan is no foreign key, nor is what belongs to a cluster
// whose name begins with this one's.
func TestKeysOfTheLibrarysOwnAreNotReported(t *testing.T) {
	t.Parallel()
	for _, mode := range allModes {
		t.Run(mode.String(), func(t *testing.T) {
			cluster, client := key(t), etcdClient(t)
			prefix := "/" + cluster + "/production/"
			core, logs := observer.New(zap.WarnLevel)
			joinInside := func(ids ...string) {
				for _, inside := range allModes {
					for _, id := range ids {
						start(t, libcluster.Config{Key: cluster, Partition: "production", Env: inside.String(), ID: id, Mode: inside})
					}
				}
			}
			joinInside("a", "b")
			for _, id := range []string{"a", "b", "c"} {
				start(t, libcluster.Config{Key: cluster, ID: id, Mode: mode, Logger: zap.New(core)})
			}
			joinInside("c", "d")
			if mode == libcluster.ModeDirect { // left by a cluster of another mode
				for _, name := range []string{"/p/plan", "/p/coordinator", "/acknowledged/1234"} {
					_, err := client.Put(t.Context(), prefix+name, "1")
					require.NoError(t, err)
				}
			}
			require.Empty(t, ignored(t, client, prefix, logs))
		})
	}
}

// A foreign key that comes and goes is reported once, by one instance, and many keys are
// not reported one by one.
func TestForeignKeysMakeFewLines(t *testing.T) {
	t.Parallel()
	for _, mode := range allModes {
		t.Run(mode.String(), func(t *testing.T) {
			cluster, client := key(t), etcdClient(t)
			prefix := "/" + cluster + "/production/"
			core, logs := observer.New(zap.WarnLevel)
			for _, id := range []string{"a", "b", "c"} {
				start(t, libcluster.Config{Key: cluster, ID: id, Mode: mode, Logger: zap.New(core)})
			}
			for range 100 {
				_, err := client.Put(t.Context(), prefix+"foreign", "none")
				require.NoError(t, err)
				_, err = client.Delete(t.Context(), prefix+"foreign")
				require.NoError(t, err)
			}
			require.Equal(t, []string{fmt.Sprintf("%q", prefix+"foreign")}, ignored(t, client, prefix, logs))
			for n := range 100 {
				_, err := client.Put(t.Context(), prefix+fmt.Sprint("foreign", n), "none")
				require.NoError(t, err)
			}
			lines := func() int { return logs.FilterMessageSnippet("ignoring").Len() }
			require.Eventually(t, func() bool { return lines() > 20 }, patience, time.Millisecond)
			require.Less(t, lines(), 50)
		})
	}
}
