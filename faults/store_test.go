//go:build linux && faults

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
)

func TestFullStoreKeepsThoseWhoAreInAndLetsTheOthersInAfterwards(t *testing.T) {
	etcd := startServers(t, 1, "--quota-backend-bytes", fmt.Sprint(16<<20))
	const ttl = 2 * shortTTL // etcd has much to do meanwhile
	members := joinMany(t, 3, func(int) libcluster.Config {
		return libcluster.Config{Registry: libcluster.Etcd(etcd.urls()...), TTL: ttl}
	})
	watchBeliefs(t, members...)
	client := dial(t, etcd.urls()...)
	fill(t, client)

	calls := callsOf(members)
	refused := prepare(t, libcluster.Config{ID: "refused", Registry: libcluster.Etcd(etcd.urls()...), TTL: ttl})
	err := joinWithin(refused, shortTTL)
	require.ErrorContains(t, err, "database space exceeded", "the error does not say what is wrong")
	waiting := prepare(t, libcluster.Config{ID: "waiting", Registry: libcluster.Etcd(etcd.urls()...), TTL: ttl})
	joined := make(chan error, 1)
	go func() { joined <- joinWithin(waiting, patience) }()
	lasts(2 * ttl) // leases that can't be renewed would expire
	requireUnmoved(t, members, calls)
	require.Equal(t, libcluster.PhaseJoining, waiting.Phase())

	row := &figures{fault: "store full (NOSPACE), joiners wait", trials: 1}
	makeRoom(t, client, etcd.all[0].url())
	end := boot()
	select {
	case err := <-joined:
		require.NoError(t, err)
	case <-time.After(patience):
		require.FailNow(t, "nobody gets in although there is room again")
	}
	awaitWhole(t, patience, append([]*member{waiting}, members...))
	row.whole = append(row.whole, boot()-end)
	requireUnmoved(t, members, calls)
	row.report(t)
}

// fill writes until the store is full.
func fill(t *testing.T, client *clientv3.Client) {
	t.Helper()
	value := strings.Repeat("x", 1<<20)
	for i := range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := client.Put(ctx, fmt.Sprintf("filling/%d", i), value)
		cancel()
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return
		}
		require.NoError(t, err)
	}
	require.FailNow(t, "etcd takes more than its quota")
}

// makeRoom does what an administrator does about a full store.
func makeRoom(t *testing.T, client *clientv3.Client, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	deleted, err := client.Delete(ctx, "filling/", clientv3.WithPrefix())
	require.NoError(t, err)
	_, err = client.Compact(ctx, deleted.Header.Revision, clientv3.WithCompactPhysical())
	require.NoError(t, err)
	_, err = client.Defragment(ctx, url)
	require.NoError(t, err)
	_, err = client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	require.NoError(t, err)
}

func TestMembersAgreeAgainOnAStoreThatWentBack(t *testing.T) {
	// A lease that is in the backup is renewed as if nothing had happened.
	t.Run("restored from an older backup", func(t *testing.T) {
		testOtherStore(t, libcluster.ErrRegistryReset, func(t *testing.T, s *server, backup string) {
			require.NoError(t, os.CopyFS(s.dir, os.DirFS(backup)))
		})
	})
	t.Run("replaced by an empty one", func(t *testing.T) {
		testOtherStore(t, libcluster.ErrRecordGone, func(*testing.T, *server, string) {})
	})
	t.Run("replaced by an empty one of another ID", func(t *testing.T) {
		testOtherStore(t, libcluster.ErrRecordGone, func(_ *testing.T, s *server, _ string) {
			s.args = append(s.args, "--initial-cluster-token", "another")
		})
	})
}

// testOtherStore has put fill a server's data folder, which is empty by then.
// One member is in the backup and another one is not. The reason is why the one
// that is loses its place.
func testOtherStore(t *testing.T, reason error, put func(t *testing.T, s *server, backup string)) {
	etcd := startServers(t, 1)
	s := etcd.all[0]
	config := func(id string) libcluster.Config {
		return libcluster.Config{ID: id, Registry: libcluster.Etcd(etcd.urls()...)}
	}
	row := &figures{fault: "store " + title(t)}
	old := join(t, config("old"))
	s.kill() // what it has acknowledged is on its disk
	backup := t.TempDir()
	require.NoError(t, os.CopyFS(backup, os.DirFS(s.dir)))
	etcd.start(s)
	etcd.awaitReadable(patience)
	young := join(t, config("young"))
	members := []*member{old, young}
	awaitWhole(t, patience, members)
	client := dial(t, etcd.urls()...)
	for range 100 { // the restored store must not catch up meanwhile
		_, err := client.Put(t.Context(), "elsewhere", "")
		require.NoError(t, err)
	}
	// A heartbeat of each after that, and they know how far the store had come.
	lasts(libcluster.DefaultTTL / 5)
	watchBeliefs(t, members...)
	calls := callsOf(members)

	s.kill()
	require.NoError(t, os.RemoveAll(s.dir))
	put(t, s, backup)
	etcd.start(s)
	end := etcd.awaitReadable(patience)
	for i, m := range members {
		await(t, patience, m.ID()+" to find out that the store is another", func() bool {
			_, fenced := m.fencedAfter(0)
			return fenced && len(m.since(calls[i])) > 0
		})
	}
	awaitWhole(t, patience, members)
	for i, m := range members {
		row.whole = append(row.whole, max(0, m.awaitActive(patience)-end))
		require.Equal(t, -1, m.since(calls[i])[0].Index, "%s was not told that it had lost its place", m.ID())
	}
	// A watch may tell it, or a heartbeat.
	requireFencedBecause(t, old, reason, libcluster.ErrRegistryReset)
	row.trials++
	row.report(t)
	requireOnly(t, client, members)
}

// requireFencedBecause checks that a member was fenced for one of the reasons.
func requireFencedBecause(t *testing.T, m *member, reasons ...error) {
	t.Helper()
	for _, line := range m.reasons() {
		for _, reason := range reasons {
			if strings.HasPrefix(line, "fenced") && strings.Contains(line, reason.Error()) {
				return
			}
		}
	}
	require.Fail(t, "fenced for another reason", "%s: %q, want one of %v", m.ID(), m.reasons(), reasons)
}

// requireOnly checks that the keys in the store are those of the members.
func requireOnly(t *testing.T, client *clientv3.Client, members []*member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	require.NoError(t, err)
	var keys []string
	for _, kv := range got.Kvs {
		keys = append(keys, strings.TrimPrefix(string(kv.Key), prefix))
	}
	want := []string{}
	for _, m := range members {
		want = append(want, m.ID())
	}
	require.ElementsMatch(t, want, keys, "records in the store")
}

func TestCompactionDuringACutIsCaughtUpWith(t *testing.T) {
	etcd := startServers(t, 1)
	l := newLine(t, etcd.all[0])
	cut := join(t, libcluster.Config{ID: "cut", Registry: libcluster.Etcd(l.url())})
	other := join(t, libcluster.Config{ID: "other", Registry: libcluster.Etcd(etcd.urls()...)})
	members := []*member{cut, other}
	awaitWhole(t, patience, members)
	watchBeliefs(t, members...)
	client := dial(t, etcd.urls()...)
	row := &figures{fault: "history compacted during a cut of 2 s"}
	calls := callsOf(members)
	for row.trials < trials(2, 20) {
		l.cut(false, true)
		began := boot()
		for workers := 2; workers <= 4; workers++ {
			require.NoError(t, other.SetWorkers(t.Context(), workers))
		}
		require.NoError(t, other.SetWorkers(t.Context(), 2+row.trials%2))
		other.workers = 2 + row.trials%2
		got, err := client.Get(t.Context(), "any")
		require.NoError(t, err)
		_, err = client.Compact(t.Context(), got.Header.Revision)
		require.NoError(t, err)
		lasts(2*time.Second - (boot() - began))
		l.heal(true) // connected anew it asks for what has been compacted
		row.whole = append(row.whole, awaitWhole(t, patience, members))
		// The next cut must not add to this one.
		await(t, patience, "a heartbeat", func() bool {
			return time.Until(cut.State().Deadline) > window(libcluster.DefaultTTL)-time.Second
		})
		row.trials++
	}
	requireUnmoved(t, members, calls)
	row.report(t)
}

func TestExpiringTokensCostNobodyItsPlace(t *testing.T) {
	const tokenTTL, ttl = 2 * time.Second, 5 * time.Second
	// The cheapest hash of a password: by default it takes etcd 50 ms, and as
	// much as a second where the race detector is built in.
	etcd := startServers(t, 1, "--auth-token", "simple", "--bcrypt-cost", "4",
		"--auth-token-ttl", fmt.Sprint(int(tokenTTL.Seconds())))
	requirePasswords(t, dial(t, etcd.urls()...))

	l := newLine(t, etcd.all[0])
	members := joinMany(t, 2, func(i int) libcluster.Config {
		return libcluster.Config{TTL: ttl, Registry: libcluster.EtcdConfig{
			Endpoints: []string{l.url()}, Username: "root", Password: libcluster.NewSecret("secret"),
		}}
	})
	watchBeliefs(t, members...)
	calls := callsOf(members)
	row := &figures{fault: "tokens expire each 2 s, connections reset"}
	for row.trials < trials(2, 10) {
		lasts(2 * tokenTTL) // with nothing but heartbeats
		members[0].workers = 1 + members[0].workers%2
		require.NoError(t, members[0].SetWorkers(t.Context(), members[0].workers), "after the token's life")
		awaitWhole(t, patience, members)
		l.reset()
		members[1].workers = 1 + members[1].workers%2
		await(t, patience, "a write after a reset", func() bool {
			return members[1].SetWorkers(t.Context(), members[1].workers) == nil
		})
		row.whole = append(row.whole, awaitWhole(t, patience, members))
		row.trials++
	}
	lasts(ttl) // an instance that was not renewed is fenced by now
	requireUnmoved(t, members, calls)
	row.report(t)
}

// requirePasswords has an etcd want a password from now on.
func requirePasswords(t *testing.T, admin *clientv3.Client) {
	t.Helper()
	_, err := admin.UserAdd(t.Context(), "root", "secret")
	require.NoError(t, err)
	_, err = admin.UserGrantRole(t.Context(), "root", "root")
	require.NoError(t, err)
	_, err = admin.AuthEnable(t.Context())
	require.NoError(t, err)
}
