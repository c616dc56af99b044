package heartbeats_test

import (
	"encoding/json"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/heartbeats"
	"github.com/libcluster/libcluster/internal/testhost"
	"github.com/libcluster/libcluster/kv"
)

// never is how often a store looks for itself that has to be told.
const never = time.Hour

// quiet returns a store that does not look for changes by itself.
func quiet(dir string) *heartbeats.Store {
	folder := dirstore.Dir(dir)
	folder.Poll = never
	return heartbeats.Beside(folder, loopback)
}

func TestChangesAreSeenAtOnceWithoutLooking(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	folder := dirstore.Dir(dir)
	folder.Poll = never
	a, _ := join(t, heartbeats.Beside(folder, loopback), "a", ttl)
	w, err := a.Watch(patience(t), "", 0)
	require.NoError(t, err)
	defer w.Close()
	ctx := patience(t)
	seen := make(chan kv.Change)
	unsaid := 0
	next := func() kv.Change {
		select {
		case c := <-seen:
			return c
		case <-time.After(20 * time.Second): // UDP may lose a packet
		}
		unsaid++
		require.LessOrEqual(t, unsaid, 1, "of sixty changes")
		folder.Look("space")
		return <-seen
	}
	reading := sync.WaitGroup{}
	defer reading.Wait()
	defer w.Close()
	reading.Go(func() {
		defer close(seen)
		for {
			changes, err := w.Next(ctx)
			if err != nil {
				return
			}
			for _, c := range changes.Records {
				seen <- c
			}
		}
	})
	for range 20 { // a watch may have begun to look only after the change
		b, owner := join(t, quiet(dir), "b", ttl) // which nobody knows yet
		require.Equal(t, "b", next().Key)
		result, err := b.Commit(patience(t), kv.Tx{Put: []kv.Record{{Key: "b", Value: []byte("2"), Owner: owner}}})
		require.NoError(t, err)
		require.True(t, result.Done)
		require.Equal(t, "2", string(next().Value))
		require.NoError(t, b.End(patience(t), owner))
		require.True(t, next().Gone)
		require.NoError(t, b.Close())
	}
}

func TestRecordsOfHeartbeatsAreHiddenAndGoWithTheirLease(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	a, owner := join(t, heartbeats.Beside(dirstore.Dir(dir), loopback), "a", ttl)
	bare, err := dirstore.Dir(dir).Open(patience(t), "space")
	require.NoError(t, err)
	defer bare.Close()
	keys := func(space kv.Space) (keys []string) {
		_, err := space.List(patience(t), "", func(r kv.Record) error {
			require.Equal(t, owner, r.Owner)
			keys = append(keys, r.Key)
			return nil
		})
		require.NoError(t, err)
		return keys
	}
	require.Equal(t, []string{"a"}, keys(a))
	require.Len(t, keys(bare), 2)
	require.NoError(t, a.End(patience(t), owner))
	require.Empty(t, keys(bare))
}

// A lease that is begun for a record that shall outlive its process has no heartbeats.
func TestOnlyTheFirstLeaseOfASpaceHasHeartbeats(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	a, first := join(t, heartbeats.Beside(dirstore.Dir(dir), loopback), "a", ttl)
	second := randomOwner()
	_, err := a.Begin(patience(t), second, ttl)
	require.NoError(t, err)
	_, err = a.Commit(patience(t), kv.Tx{Put: []kv.Record{{Key: "kept", Owner: second}}})
	require.NoError(t, err)
	bare, err := dirstore.Dir(dir).Open(patience(t), "space")
	require.NoError(t, err)
	defer bare.Close()
	_, err = bare.List(patience(t), "/heartbeats/", func(r kv.Record) error {
		require.Equal(t, first, r.Owner)
		return nil
	})
	require.NoError(t, err)
}

func TestPortThatCannotBeOpenedIsSaid(t *testing.T) {
	t.Parallel()
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for _, test := range []struct {
		heartbeats.Config
		says string
	}{
		{heartbeats.Config{Bind: taken.LocalAddr().String()}, "heartbeats.Config.Bind: cannot listen at"},
		{heartbeats.Config{Bind: "nowhere"}, `heartbeats.Config.Bind: "nowhere" must be HOST:PORT`},
		{heartbeats.Config{Bind: "127.0.0.1:99999"}, "must be 1 to 65535"},
		{heartbeats.Config{Bind: loopback.Bind, Advertise: "0.0.0.0:1"}, "heartbeats.Config.Advertise: host"},
		{heartbeats.Config{Bind: loopback.Bind, Advertise: "x"}, "heartbeats.Config.Advertise: "},
	} {
		space, err := heartbeats.Beside(dirstore.Dir(shm(t)), test.Config).Open(patience(t), "space")
		require.NoError(t, err)
		_, err = space.Begin(patience(t), randomOwner(), ttl)
		require.ErrorIs(t, err, kv.ErrRefused)
		require.ErrorContains(t, err, test.says)
		require.NoError(t, space.Close())
	}
}

// An attempt to rejoin opens a space before the one before is closed, and others of the process
// may be in other spaces.
func TestAllLeasesOfAStoreShareItsPort(t *testing.T) {
	t.Parallel()
	address := testhost.FreeAddress(t)
	dir := shm(t)
	store := heartbeats.Beside(dirstore.Dir(dir), heartbeats.Config{Bind: address, Advertise: "localhost:0"})
	a, _ := join(t, store, "a", ttl)
	b, _ := join(t, store, "b", ttl)
	bare, err := dirstore.Dir(dir).Open(patience(t), "space")
	require.NoError(t, err)
	defer bare.Close()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	found := 0
	_, err = bare.List(patience(t), "/heartbeats/", func(r kv.Record) error {
		found++
		var said struct{ Address string }
		require.NoError(t, json.Unmarshal(r.Value, &said))
		require.Equal(t, "localhost:"+port, said.Address)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, found)

	require.NoError(t, a.Close())
	_, err = net.ListenPacket("udp", address)
	require.Error(t, err, "it is in use")
	require.NoError(t, b.Close())
	// A process that another test begins has all ports of this one until it runs its program.
	require.Eventually(t, func() bool {
		closed, err := net.ListenPacket("udp", address)
		return err == nil && closed.Close() == nil
	}, watchdog, time.Millisecond, "nobody has it any more")
}

func TestLeaseOfAClosedSpaceIsLeftToPass(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	var sent [2]atomic.Int64
	var spaces [2]kv.Space
	var owners [2]kv.Owner
	for i, key := range []string{"a", "b"} {
		store := heartbeats.Beside(dirstore.Dir(dir), loopback)
		store.Through(func(string) {}, func(string) bool { sent[i].Add(1); return false })
		spaces[i], owners[i] = join(t, store, key, 30*time.Second)
	}
	exchange := func(who, packets int) {
		before := sent[who].Load()
		require.Eventually(t, func() bool { return sent[who].Load() >= before+int64(packets) }, watchdog, time.Millisecond)
	}
	exchange(0, 2) // so they have heard each other
	exchange(1, 2)
	require.NoError(t, spaces[0].Close())
	exchange(1, 3) // which the port refuses
	_, err := spaces[1].Renew(patience(t), owners[0])
	require.NoError(t, err)
}
