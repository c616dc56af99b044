package metrics_test

import (
	"context"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
	"github.com/libcluster/libcluster/metrics"
)

var (
	update = flag.Bool("update", false, "write the golden files anew")
	scrape = flag.String("scrape", "", "write what was scraped over HTTP to this file")
	crash  = flag.String("crash", "", "write what is scraped of two instances, one of which was lost and has come back, to this file")
)

const golden = "testdata/scrape.txt"

// families has an instance of each kind, and so all metrics.
func (w *world) families() {
	w.member("a", in(libcluster.ModeCooperative), func(c *libcluster.Config) { c.Key, c.Partitions, c.Partition = "files", 8, "eu" })
	w.member("b", in(libcluster.ModeExclusive), func(c *libcluster.Config) { c.Workers = 3 })
	w.member("c", func(c *libcluster.Config) { c.Key, c.Registry = "batch", libcluster.Static(4, 8) })
	w.instance("d", func(c *libcluster.Config) { c.Key = "idle" }) // never joins
}

// One Prometheus registry has several clusters of one process.
func TestAllFamiliesAreAsTheyWere(t *testing.T) {
	inBubble(t, func(w *world) {
		w.families()
		wait(time.Second) // the first heartbeat is left to chance, and comes later
		w.Gatherer = withoutChance(w.Gatherer)
		if *update {
			require.NoError(w, os.WriteFile(golden, []byte(w.scrape()), 0o644))
		}
		want, err := os.Open(golden)
		require.NoError(w, err)
		defer want.Close()
		require.NoError(w, testutil.GatherAndCompare(w, want))
	})
}

// withoutChance zeroes the values that depend on how many milliseconds a coordinator has paused.
func withoutChance(g prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := g.Gather()
		for _, f := range families {
			if name := f.GetName(); name == "libcluster_generation" || name == "libcluster_seconds_until_deadline" {
				for _, m := range f.GetMetric() {
					*m.GetGauge().Value = 0
				}
			}
		}
		return families, err
	})
}

func TestNamesAndUnitsAreAsPrometheusWantsThem(t *testing.T) {
	inBubble(t, func(w *world) {
		w.families()
		wait(time.Minute)
		problems, err := testutil.GatherAndLint(w)
		require.NoError(w, err)
		require.Empty(w, problems)
	})
}

// .ci/run gives what is scraped to promtool.
func TestScrapeOverHTTP(t *testing.T) {
	w := newWorld(t)
	defer w.leave()
	w.families()
	server := httptest.NewServer(promhttp.HandlerFor(w, promhttp.HandlerOpts{}))
	defer server.Close()
	answer, err := http.Get(server.URL)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `libcluster_partitions_held{env="production",id="a",key="files",partition_name="eu"} 8`)
	if *scrape != "" {
		require.NoError(t, os.WriteFile(*scrape, body, 0o600))
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestTwoInstancesOfOneNameAreRefused(t *testing.T) {
	w := newWorld(t)
	a := w.instance("a")
	require.ErrorAs(t, w.Register(metrics.NewCollector(a)), new(prometheus.AlreadyRegisteredError))
	w.instance("b")
	w.instance("a", func(c *libcluster.Config) { c.Env = "test" })
}

// Join, join of another, crash, fence, rejoin, leave: what each of them says.
func TestValuesFollowWhatHappens(t *testing.T) {
	inBubble(t, func(w *world) {
		var calls atomic.Int64
		exclusive := in(libcluster.ModeExclusive)
		counted := func(c *libcluster.Config) {
			c.Workers = 2
			c.OnRebalance = func(libcluster.State) { calls.Add(1) }
		}
		has := func(id string, want map[string]string) {
			w.Helper()
			found := w.values(id)
			for name, value := range want {
				require.Equal(w, value, found[name], "%s of %s: %v", name, id, found)
			}
		}
		lacks := func(id string, names ...string) {
			w.Helper()
			for _, name := range names {
				require.NotContains(w, w.values(id), name)
			}
		}

		a := w.instance("a", exclusive, counted)
		has("a", map[string]string{
			"active": "0", "index": "-1", "workers": "2", "members": "0", "phase left": "1", "phase active": "0",
			"rebalances_total": "0", "renew_seconds_count": "0", "fences_total deadline": "0", "registry_errors_total join": "0",
		})
		lacks("a", "generation", "covered", "seconds_until_deadline", "total_partitions", "partitions_held")

		require.NoError(w, a.Join(w.Context()))
		wait(20 * time.Second)
		has("a", map[string]string{
			"active": "1", "index": "0", "total_workers": "2", "members": "1", "phase left": "0", "phase active": "1",
			"rebalances_total": "1", "covered": "1", "blockers": "0", "handover_seconds_count graceful": "1",
		})
		require.Contains(w, w.values("a"), "generation")

		b := w.member("b", exclusive)
		wait(20 * time.Second)
		has("a", map[string]string{"total_workers": "3", "members": "2", "rebalances_total": "3", "handover_seconds_count graceful": "2"})
		has("b", map[string]string{"active": "1", "index": "2", "total_workers": "3", "members": "2", "rebalances_total": "1", "handover_seconds_count graceful": "0"})
		require.Equal(w, w.values("a")["generation"], w.values("b")["generation"])
		lacks("b", "covered") // it does not coordinate

		// b is cut off: it is fenced by itself, and then its record expires.
		w.Cut("b")
		wait(8 * time.Second)
		has("b", map[string]string{
			"active": "0", "index": "-1", "phase fenced": "1", "phase active": "0", "fences_total deadline": "1",
			"rejoins_total": "0", "rebalances_total": "2", "seconds_until_deadline": "0",
		})
		require.NotEqual(w, "0", w.values("b")["registry_errors_total renew"])
		has("a", map[string]string{"active": "1", "total_workers": "3", "covered": "1", "blockers": "0", "fences_total deadline": "0"})
		wait(4 * time.Second) // and a waits until b must have stopped
		has("a", map[string]string{"active": "1", "total_workers": "3", "covered": "0", "blockers": "1", "handover_seconds_count crash": "0"})
		wait(20 * time.Second)
		has("a", map[string]string{
			"active": "1", "total_workers": "2", "members": "1", "covered": "1", "blockers": "0",
			"handover_seconds_count crash": "1", "handover_seconds_count graceful": "2",
		})
		took, err := strconv.ParseFloat(w.values("a")["handover_seconds_sum crash"], 64)
		require.NoError(w, err)
		require.InDelta(w, 7.75, took, 0.5)

		w.Heal("b")
		wait(20 * time.Second)
		has("b", map[string]string{"active": "1", "phase fenced": "0", "rejoins_total": "1", "fences_total deadline": "1", "rebalances_total": "3"})
		has("a", map[string]string{"total_workers": "3", "handover_seconds_count graceful": "3"})
		if *crash != "" {
			require.NoError(w, os.WriteFile(*crash, []byte(w.scrape()), 0o600))
		}

		require.NoError(w, b.Leave(w.Context()))
		wait(20 * time.Second)
		has("b", map[string]string{"active": "0", "phase left": "1", "rebalances_total": "4", "fences_total deadline": "1"})
		lacks("b", "seconds_until_deadline")
		has("a", map[string]string{
			"total_workers": "2", "members": "1", "rebalances_total": strconv.FormatInt(calls.Load(), 10),
			"handover_seconds_count graceful": "4", "handover_seconds_count crash": "1",
		})
		require.NotEqual(w, "0", w.values("a")["renew_seconds_count"])
	})
}

func TestWhatHasNoMeaningIsLeftOut(t *testing.T) {
	inBubble(t, func(w *world) {
		w.families()
		w.member("p", func(c *libcluster.Config) { c.Key, c.Passive = "seen", true })
		wait(time.Minute)
		for id, names := range map[string][]string{
			"a": {"total_workers"},
			"b": {"total_partitions", "partitions_held"},
			"c": {"generation", "covered", "blockers", "seconds_until_deadline", "handover_seconds_count graceful"},
			"d": {"generation", "covered", "seconds_until_deadline"},
			"p": {"workers", "handover_seconds_count graceful"},
		} {
			found := w.values(id)
			require.NotEmpty(w, found)
			for _, name := range names {
				require.NotContains(w, found, name, id)
			}
		}
	})
}

// In virtual time nothing passes unless all wait: a scrape that waits for anything takes time.
func TestScrapeTakesNoTimeWhileTheRegistryHangs(t *testing.T) {
	for _, mode := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModeExclusive, libcluster.ModeCooperative} {
		inBubble(t, func(w *world) {
			w.member("a", in(mode))
			w.member("b", in(mode))
			wait(time.Minute)
			w.CutAll()
			for range 80 {
				began := time.Now()
				w.scrape()
				require.Zero(w, time.Since(began), "a scrape has waited for something")
				wait(250 * time.Millisecond)
			}
			require.Equal(w, "1", w.values("a")["phase fenced"])
			require.NotContains(w, w.values("a"), "covered", "nobody has looked for longer than a TTL")
		})
	}
}

// eachBeatIsInTime has a member's heartbeats watched while somebody scrapes.
func eachBeatIsInTime(t *testing.T, scrapes func(ctx context.Context, w *world)) {
	inBubble(t, func(w *world) {
		var beats atomic.Int64
		var last time.Time
		w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpRenew {
				if beats.Add(1) > 1 {
					require.LessOrEqual(w, time.Since(last), libcluster.DefaultTTL/6+1, "a heartbeat was late")
				}
				last = time.Now()
			}
			return call.Send(ctx)
		})
		w.member("a", in(libcluster.ModeExclusive))
		ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
		defer stop()
		scrapes(ctx, w)
		require.GreaterOrEqual(w, beats.Load(), int64(2*time.Minute*6/libcluster.DefaultTTL)-1)
		require.Equal(w, "1", w.values("a")["active"])
		require.Equal(w, "0", w.values("a")["fences_total deadline"])
	})
}

func TestScrapesDelayNoHeartbeat(t *testing.T) {
	eachBeatIsInTime(t, func(ctx context.Context, w *world) {
		for ctx.Err() == nil {
			w.scrape()
			wait(211 * time.Millisecond)
		}
	})
}

func TestReaderThatStopsReadingDelaysNoHeartbeat(t *testing.T) {
	eachBeatIsInTime(t, func(ctx context.Context, w *world) {
		to := make(chan prometheus.Metric)
		go func() {
			defer close(to)
			metrics.NewCollector(w.all[0]).Collect(to)
		}()
		<-to
		<-ctx.Done()
		for range to { // the rest
		}
	})
}

// All metrics are described from the start, whatever the mode.
func TestEachMetricIsInTheDocumentationAndInTheGoldenText(t *testing.T) {
	documentation, text := readAll(t, "metrics.go"), readAll(t, golden)
	names := described(t)
	for _, name := range names {
		require.True(t, strings.HasPrefix(name, "libcluster_"), name)
		if strings.Contains(text, "# TYPE "+name+" ") {
			require.Contains(t, documentation, "//\t"+name+" ")
		} else {
			require.Contains(t, text, name+"{") // of a histogram
		}
	}
	require.Equal(t, strings.Count(text, "# TYPE "), strings.Count(documentation, "//\tlibcluster_"))
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}
