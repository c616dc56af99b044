package peers_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster/peers"
)

// store returns the number of the cluster that a peer's server is of, and its voters.
func store(t testing.TB, p *process) (number uint64, voters int) {
	t.Helper()
	client, _, err := clientTo(p.file)
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list, err := client.MemberList(ctx)
	require.NoError(t, err)
	for _, m := range list.Members {
		if !m.IsLearner {
			voters++
		}
	}
	return list.Header.ClusterId, voters
}

// lose moves the data folder of a process away, and returns what brings it back.
func lose(t testing.TB, p *process) (restore func()) {
	t.Helper()
	config, err := peers.ReadConfig(p.file)
	require.NoError(t, err)
	away := config.DataDir + ".away"
	require.NoError(t, os.Rename(config.DataDir, away))
	return func() {
		require.NoError(t, os.RemoveAll(config.DataDir))
		require.NoError(t, os.Rename(away, config.DataDir))
	}
}

// says waits until a process has said why it has no place.
func (p *process) says(t testing.TB, want string) {
	t.Helper()
	eventually(t, p.id+" says: "+want, func() bool {
		for _, e := range p.all() {
			if e.Kind == "trouble" && strings.Contains(e.Text, want) {
				return true
			}
		}
		return false
	})
}

// idles waits until none of the processes acts.
func idles(t testing.TB, all ...*process) {
	t.Helper()
	for _, p := range all {
		eventually(t, p.id+" does not act", func() bool {
			e, ok := p.last("state")
			return !ok || e.Index < 0
		})
	}
}

func TestLostFolderHealsItself(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "direct", files(t, 3, nil)...)
	awaitAll(t, "a", 3, all...)
	before, _ := store(t, all[0])
	for range max(1, *trials-1) { // more than once: also the peer that has healed
		all[2].kill()
		lose(t, all[2])
		awaitAll(t, "a", 2, all[:2]...)
		all[2] = spawn(t, all[2].file, "direct")
		awaitAll(t, "a", 3, all...)
		after, voters := store(t, all[2])
		require.Equal(t, before, after)
		require.Equal(t, 3, voters)
		require.NoError(t, os.RemoveAll(filepath.Join(filepath.Dir(all[2].file), "c.data.away")))
	}
}

func TestTwoThatLostTheirFoldersMakeNoClusterWithoutTheThird(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "direct", files(t, 3, nil)...)
	awaitAll(t, "a", 3, all...)
	for _, p := range all {
		p.kill()
	}
	lose(t, all[1])
	lose(t, all[2])
	b, c := spawn(t, all[1].file, "direct"), spawn(t, all[2].file, "direct")
	b.says(t, "with an empty data folder the first start needs all peers")
	c.says(t, "with an empty data folder the first start needs all peers")
	spawn(t, all[0].file, "direct")
	b.says(t, "has no majority")
	idles(t, b, c)
	client, _, err := clientTo(all[0].file)
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = client.Get(ctx, "owner", clientv3.WithSerializable())
	require.Error(t, err, "a server that is not ready is read")
}

func TestPowerCutLosesNothing(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "planned", files(t, 3, nil)...)
	eventually(t, "three", func() bool { e, ok := all[0].last("state"); return ok && e.Total == 3 })
	before, _ := store(t, all[0])
	generation, _ := all[0].last("state")
	for _, p := range all {
		p.kill()
	}
	for n, p := range all {
		all[n] = spawn(t, p.file, "planned")
	}
	for _, p := range all {
		eventually(t, "three", func() bool { e, ok := p.last("state"); return ok && e.Total == 3 && e.Gen > generation.Gen })
	}
	after, voters := store(t, all[0])
	require.Equal(t, before, after)
	require.Equal(t, 3, voters)
}

func TestServerThatStopsGivesItsFolderBack(t *testing.T) {
	t.Parallel()
	list := files(t, 1, nil)
	for range 2 {
		p := load(t, list[0])
		c := newCluster(t, p, nil)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		require.NoError(t, c.Join(ctx))
		require.NoError(t, c.Leave(ctx))
		cancel()
		require.NoError(t, p.Close())
	}
}

// Nothing is kept, and fencing tokens go on growing all the same: in a mode with a plan the clock has a
// say in generations.
func TestPeersThatHaveAllLostTheirFoldersBeginAnew(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "exclusive", files(t, 3, nil)...)
	active(t, all...)
	primaryOf(t, all...).order(t, "fence", "write")
	eventually(t, "it has written", func() bool { return owner(t, all[0]) != "" })
	before, _ := all[0].last("state")
	for _, p := range all {
		p.kill()
	}
	for n, p := range all {
		lose(t, p)
		all[n] = spawn(t, p.file, "exclusive")
	}
	active(t, all...)
	require.Empty(t, owner(t, all[0]))
	_, voters := store(t, all[0])
	require.Equal(t, 3, voters)
	after, _ := all[0].last("state")
	require.Greater(t, after.Gen, before.Gen)
}

// owner returns which instance has written last.
func owner(t testing.TB, p *process) string {
	t.Helper()
	client, _, err := clientTo(p.file)
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got, err := client.Get(ctx, "owner")
	require.NoError(t, err)
	for _, pair := range got.Kvs {
		return string(pair.Value)
	}
	return ""
}
