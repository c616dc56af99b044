package peers_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/peers"
)

// joinAll joins one instance at each peer.
func joinAll(t testing.TB, all ...*peers.Peers) (clusters []*libcluster.Cluster) {
	var joining sync.WaitGroup
	for _, p := range all {
		c := newCluster(t, p, nil)
		clusters = append(clusters, c)
		joining.Go(func() { join(t, c) })
	}
	joining.Wait()
	return clusters
}

func loadAll(t testing.TB, files []string) (all []*peers.Peers) {
	for _, file := range files {
		all = append(all, load(t, file))
	}
	return all
}

// telling has a cluster's log noted.
func telling(t testing.TB, p *peers.Peers) (*libcluster.Cluster, *observer.ObservedLogs) {
	core, logs := observer.New(zap.WarnLevel)
	return newCluster(t, p, func(c *libcluster.Config) { c.Logger = zap.New(core) }), logs
}

// trouble waits until a log says why a server does not start.
func trouble(t testing.TB, logs *observer.ObservedLogs, want string) {
	t.Helper()
	eventually(t, want, func() bool {
		for _, entry := range logs.All() {
			if strings.Contains(fmt.Sprint(entry.Message, entry.ContextMap()), want) {
				return true
			}
		}
		return false
	})
}

// joining joins in the background, until the test ends.
func joining(t testing.TB, c *libcluster.Cluster) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Join(ctx) // it is cancelled
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = c.Leave(context.Background())
	})
}

func TestLoadingStartsNothing(t *testing.T) {
	p := load(t, files(t, 3, nil)[0])
	_, err := http.Get("http://" + p.Self().Address + "/ping")
	require.Error(t, err)
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	_, err = libcluster.New(libcluster.Config{Key: "k", Registry: p})
	require.ErrorContains(t, err, "peers: closed")
}

func TestPingIsAnswered(t *testing.T) {
	p := load(t, files(t, 3, nil)[0])
	joining(t, newCluster(t, p, nil))
	eventually(t, "pong", func() bool {
		answer, err := http.Get("http://" + p.Self().Address + "/ping")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return err == nil && string(text) == "pong"
	})
	http.DefaultClient.CloseIdleConnections()
}

func TestFirstStartWaitsForAllAndSaysForWhom(t *testing.T) {
	all := loadAll(t, files(t, 3, nil))
	a, logsA := telling(t, all[0])
	b, logsB := telling(t, all[1])
	joining(t, a)
	joining(t, b)
	want := "waits for " + all[2].Self().Address + ": with an empty data folder the first start needs all peers"
	trouble(t, logsA, want)
	trouble(t, logsB, want)
	join(t, newCluster(t, all[2], nil))
	for _, c := range []*libcluster.Cluster{a, b} {
		eventually(t, "three", func() bool { return c.State().Total == 3 })
	}
}

func TestJoinThatIsCancelledReturnsAndTheServerGoesOnStarting(t *testing.T) {
	all := loadAll(t, files(t, 3, nil))
	c := newCluster(t, all[0], nil)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Join(ctx), context.DeadlineExceeded)
	joinAll(t, all[1:]...) // which need the server
}

func TestListsThatDifferRefuseEachOther(t *testing.T) {
	list := files(t, 3, nil)
	c, err := peers.ReadConfig(list[0])
	require.NoError(t, err)
	c.Peers = c.Peers[:1]
	odd, err := peers.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, odd.Close()) })
	one, logs := telling(t, odd)
	other, otherLogs := telling(t, load(t, list[1]))
	joining(t, one)
	joining(t, other)
	trouble(t, logs, "the lists differ")
	trouble(t, otherLogs, "the lists differ")
}

func TestEvenNumberOfPeersIsWarnedOf(t *testing.T) {
	for n := 2; n <= 5; n++ {
		c, logs := telling(t, load(t, files(t, n, nil)[0]))
		joining(t, c)
		trouble(t, logs, "waits for ") // it is logged later
		even := logs.FilterMessageSnippet("an even number of peers survives the loss of no more than one less").Len()
		require.Equal(t, 1-n%2, even, "of %d", n)
	}
}

func TestOnePeerAloneIsACluster(t *testing.T) {
	c := joinAll(t, loadAll(t, files(t, 1, nil))...)[0]
	require.Equal(t, 1, c.State().Total)
}

func TestInstanceOutsideTheListIsAClient(t *testing.T) {
	list := files(t, 3, nil)
	joinAll(t, loadAll(t, list)...)
	c, err := peers.ReadConfig(list[0])
	require.NoError(t, err)
	own := peers.Peer{ID: c.ID, Address: c.Listen}
	client, err := peers.New(peers.Config{ID: "x", Peers: append(c.Peers, own)})
	require.NoError(t, err)
	at := newCluster(t, client, nil)
	join(t, at)
	require.Equal(t, 3, at.State().Index)
	require.Equal(t, 4, at.State().Total)
}

func TestDataFolderIsOneProcesss(t *testing.T) {
	list := files(t, 1, nil)
	joinAll(t, load(t, list[0]))
	c, err := peers.ReadConfig(list[0])
	require.NoError(t, err)
	c.Listen = "127.0.0.1:1"
	again, err := peers.New(c)
	require.NoError(t, err)
	at, logs := telling(t, again)
	joining(t, at)
	trouble(t, logs, "is in use by another process")
}
