//go:build faults && linux

package peers_test

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A server that comes back hears of what has happened in its order, compactions included; or, if that is
// too much, it is sent the end of it, and its instance has to read all anew.
func TestCompactionDuringACutIsCaughtUpWith(t *testing.T) {
	for what, writes := range map[string]int{"in order": 100, "by a snapshot": 16_000} {
		t.Run(what, func(t *testing.T) {
			net := newNetwork(t, 3)
			all := net.spawnAll(t, forLong)
			active(t, all...)
			settled(t, all...)
			victim := roles["follower"](t, all)
			rest := without(victim, all)
			before := statesOf(victim)
			missed := watchAt(t, victim)

			net.cut(victim)
			late := net.client(t, "late", forLong)
			awaitAll(t, "a", 4, append([]*process{late}, rest...)...)
			late.leave(t)
			awaitAll(t, "a", 3, rest...)
			rest[0].order(t, "grow")
			compact(t, leader(t, rest...), writes)
			net.mend(victim)
			for _, p := range all {
				eventually(t, p.id+" knows of the change", func() bool { e, _ := p.last("state"); return e.Total == 4 })
			}
			for _, e := range statesOf(victim)[len(before):] {
				require.NotEqual(t, -1, e.Index, "it has lost its place")
			}
			require.Equal(t, writes > 100, missed(), "its server was sent a snapshot")
			onePrimary(t, all...)
		})
	}
}

// compact writes so much, and has its history forgotten.
func compact(t *testing.T, p *process, writes int) {
	t.Helper()
	client, _, err := clientTo(p.file)
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var writing sync.WaitGroup
	const writers = 50
	for range writers {
		writing.Go(func() {
			for n := range writes / writers {
				if _, err := client.Put(ctx, "owner", strconv.Itoa(n)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	got, err := client.Get(ctx, "owner")
	require.NoError(t, err)
	_, err = client.Compact(ctx, got.Header.Revision)
	require.NoError(t, err)
}

// watchAt watches the server of a process. What it returns waits until the watch has heard of the last
// write, and reports whether it had to be told that something is forgotten.
func watchAt(t *testing.T, p *process) (missed func() bool) {
	t.Helper()
	client, _, err := clientTo(p.file)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	got, err := client.Get(t.Context(), "owner")
	require.NoError(t, err)
	told := client.Watch(t.Context(), "owner", clientv3.WithRev(got.Header.Revision+1), clientv3.WithCreatedNotify())
	require.True(t, (<-told).Created)
	return func() bool {
		now, err := client.Get(t.Context(), "owner")
		require.NoError(t, err)
		for answer := range told {
			if answer.Err() != nil {
				require.ErrorIs(t, answer.Err(), rpctypes.ErrCompacted)
				return true
			}
			for _, e := range answer.Events {
				if e.Kv.ModRevision == now.Kvs[0].ModRevision {
					return false
				}
			}
		}
		require.Fail(t, "the watch has ended")
		return false
	}
}
