package peers_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/peers"
)

// What users of QCluster rely on, or would have liked to.

func TestAllNameOnePrimaryWithItsMetadata(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "direct", files(t, 3, nil)...)
	awaitAll(t, "a", 3, all...)
	for _, p := range all { // also a itself
		e, _ := p.last("state")
		require.Equal(t, "8000", e.Meta, p.id)
	}
}

// serveAt answers as the primary, or sends the client elsewhere.
func serveAt(t *testing.T, p *peers.Peers, c *libcluster.Cluster, sites map[string]string) string {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, m := range c.Members() {
			if m.Index == 0 && m.ID != p.Self().ID {
				http.Redirect(w, r, sites[m.ID]+r.URL.Path, http.StatusFound)
				return
			}
		}
		_, _ = io.WriteString(w, "served by "+p.Self().ID)
	}))
	t.Cleanup(site.Close)
	return site.URL
}

func TestRequestsAreSentToThePrimary(t *testing.T) {
	t.Parallel()
	all := loadAll(t, files(t, 3, nil))
	sites := map[string]string{}
	for n, c := range joinAll(t, all...) {
		eventually(t, "three", func() bool { return c.State().Total == 3 })
		sites[all[n].Self().ID] = serveAt(t, all[n], c, sites)
	}
	for _, site := range sites {
		answer, err := http.Get(site + "/")
		require.NoError(t, err)
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, "served by a", string(text))
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestWithoutAMajorityNobodyIsPrimary(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "direct", files(t, 4, nil)...)
	awaitAll(t, "a", 4, all...)
	all[2].kill()
	all[3].kill()
	idles(t, all[0], all[1])
	again := spawn(t, all[2].file, "direct")
	awaitAll(t, "a", 3, all[0], all[1], again)
}

func TestPeersThatStartOneAfterTheOtherMakeOneCluster(t *testing.T) {
	t.Parallel()
	for range *trials {
		list := files(t, 3, nil)
		all := []*process{spawn(t, list[2], "direct")}
		all[0].says(t, "the first start needs all peers")
		all = append(all, spawn(t, list[0], "direct"))
		all[1].says(t, "the first start needs all peers")
		all = append(all, spawn(t, list[1], "direct"))
		awaitAll(t, "a", 3, all...)
		onePrimary(t, all...)
		for _, p := range all {
			p.kill()
		}
	}
}

// onePrimary checks that no two processes have seen different primaries of one generation.
func onePrimary(t testing.TB, all ...*process) {
	t.Helper()
	primaries := map[int64]string{}
	for _, p := range all {
		for _, e := range p.all() {
			if e.Kind != "state" || e.Primary == "" {
				continue
			}
			if before, ok := primaries[e.Gen]; ok {
				require.Equal(t, before, e.Primary, "primary of generation %d", e.Gen)
			}
			primaries[e.Gen] = e.Primary
		}
	}
}

func TestStoppedFollowerDisturbsNobody(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "exclusive", files(t, 3, nil)...)
	active(t, all...)
	settled(t, all...)
	primary, lead := primaryOf(t, all...), leader(t, all...)
	var follower *process
	for _, p := range all {
		if p != primary && p != lead {
			follower = p
		}
	}
	follower.signal(t, syscall.SIGSTOP)
	rest := without(follower, all)
	active(t, rest...)
	require.Same(t, primary, primaryOf(t, rest...))
	follower.signal(t, syscall.SIGCONT)
	active(t, all...)
	require.Same(t, primary, primaryOf(t, all...))
	require.Zero(t, overlap(all...))
	onePrimary(t, all...)
}
