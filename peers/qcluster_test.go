package peers_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/peers"
)

// What users of QCluster rely on, or would have liked to.

// qclusters writes QCluster's own files with other ports, and with one key more if it is given, in
// which N is 1 to 3.
func qclusters(t *testing.T, key string) (all []string) {
	dir, free := t.TempDir(), ports(t, 3)
	for n, id := range []string{"server_a", "server_b", "server_c"} {
		text, err := os.ReadFile(filepath.Join("testdata", id+".json"))
		require.NoError(t, err)
		changed := strings.NewReplacer(
			"7001", strconv.Itoa(free[0]), "7002", strconv.Itoa(free[1]), "7003", strconv.Itoa(free[2]),
			`"listen_host"`, strings.ReplaceAll(key, "N", strconv.Itoa(n+1))+`"listen_host"`,
		).Replace(string(text))
		all = append(all, filepath.Join(dir, id+".json"))
		require.NoError(t, os.WriteFile(all[n], []byte(changed), 0o600))
	}
	return all
}

// names waits until all name the primary of three, and returns what each knows of it.
func names(t *testing.T, primary string, all ...*process) (known []event) {
	awaitAll(t, primary, 3, all...)
	for _, p := range all {
		eventually(t, p.id+" names "+primary, func() bool {
			e, _ := p.last("primary")
			return e.Primary == primary && e.Address != ""
		})
		e, _ := p.last("primary")
		known = append(known, e)
	}
	return known
}

func TestAllNameOnePrimaryOfQClustersFiles(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "direct", qclusters(t, "")...)
	a, err := peers.Load(all[0].file)
	require.NoError(t, err)
	for n, e := range names(t, "server_a", all...) { // also server_a itself
		require.Equal(t, a.Self().Address, e.Address)
		require.Empty(t, e.Port, "its own file does not say it")
		require.Equal(t, []string{"", "8001", "8001"}[n], e.Listed)
	}
}

func TestAllNameOnePrimaryWithItsMetadata(t *testing.T) {
	for _, mode := range []string{"direct", "planned", "exclusive"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			all := spawnAll(t, mode, qclusters(t, `"metadata": {"server_port": 800N}, `)...)
			active(t, all...)
			primary := primaryOf(t, all...) // with a plan it is the one that came first
			port := "800" + strconv.Itoa(1+slices.Index(all, primary))
			for _, p := range all { // also the primary itself
				eventually(t, p.id+" knows the primary's metadata", func() bool {
					e, _ := p.last("primary")
					return e.Primary == primary.id && e.Address != "" && e.Port == port
				})
			}
		})
	}
}

func TestRequestsAreSentToThePrimary(t *testing.T) {
	t.Parallel()
	var sites []string
	var clusters []*libcluster.Cluster
	for _, p := range loadAll(t, files(t, 3, nil)) {
		site := httptest.NewUnstartedServer(nil)
		c := newCluster(t, p, func(c *libcluster.Config) { c.Address = site.Listener.Addr().String() })
		site.Config.Handler = byPrimary(c, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, c.ID(), " serves ", r.URL)
		}))
		site.Start()
		t.Cleanup(site.Close)
		sites, clusters = append(sites, site.URL), append(clusters, c)
	}
	asks := func(site string) (status int, text string) {
		answer, err := http.Get(site + "/x?y=z")
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body)
	}
	status, text := asks(sites[1])
	require.Equal(t, http.StatusServiceUnavailable, status, text)

	var joining sync.WaitGroup
	for _, c := range clusters {
		joining.Go(func() { join(t, c) })
	}
	joining.Wait()
	for n, c := range clusters {
		eventually(t, "a is the primary", func() bool { primary, _ := c.Primary(); return primary.ID == "a" })
		_, text := asks(sites[n])
		require.Equal(t, "a serves /x?y=z", text)
	}
	http.DefaultClient.CloseIdleConnections()
}

// A primary that was stopped has not acted meanwhile, and still does what it was about to: it writes.
func TestLateWriteOfAPrimaryThatWasStoppedIsRefused(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "exclusive", files(t, 3, nil)...)
	lateWrite(t, all,
		func(p *process) { p.signal(t, syscall.SIGSTOP) },
		func(p *process) { p.signal(t, syscall.SIGCONT) })
}

// lateWrite has a primary that is held up write when the next one has written.
func lateWrite(t *testing.T, all []*process, hold, release func(*process)) {
	t.Helper()
	active(t, all...)
	settled(t, all...)
	late := primaryOf(t, all...)
	late.order(t, "fence")
	eventually(t, "a fence", func() bool { _, ok := late.last("fence"); return ok })
	hold(late)
	late.order(t, "write")
	rest := without(late, all)
	active(t, rest...)
	next := primaryOf(t, rest...)
	eventually(t, "the next primary writes", func() bool {
		next.order(t, "fence", "write") // again, if there was another plan in between
		_, wrote := next.last("wrote")
		return wrote
	})
	release(late)
	eventually(t, "the late write is refused", func() bool { _, ok := late.last("refused"); return ok })
	_, wrote := late.last("wrote")
	require.False(t, wrote)
	require.Equal(t, next.id, owner(t, next))
	active(t, all...)
	require.Zero(t, overlap(all...))
	onePrimary(t, all...)
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
