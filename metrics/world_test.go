package metrics_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
	"github.com/libcluster/libcluster/metrics"
)

// world is a registry of clusters with its instances, and one of metrics.
type world struct {
	*testing.T
	*libclustertest.Registry
	prometheus.Registerer
	prometheus.Gatherer
	all []*libcluster.Cluster
}

func newWorld(t *testing.T) *world {
	prom := prometheus.NewPedanticRegistry()
	return &world{T: t, Registry: libclustertest.New(), Registerer: prom, Gatherer: prom}
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.leave()
		test(w)
	})
}

// leave has all leave, also in a test that has failed.
func (w *world) leave() {
	w.HealAll()
	w.Intercept(nil)
	for _, c := range w.all {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		c.Leave(ctx)
		cancel()
	}
}

// instance makes an instance whose metrics are registered.
func (w *world) instance(id string, change ...func(*libcluster.Config)) *libcluster.Cluster {
	w.Helper()
	cfg := libcluster.Config{Key: "mailer", ID: id, Registry: w.Registry}
	for _, f := range change {
		f(&cfg)
	}
	c, err := libcluster.New(cfg)
	require.NoError(w, err)
	require.NoError(w, w.Register(metrics.NewCollector(c)))
	w.all = append(w.all, c)
	return c
}

// member makes one and has it join.
func (w *world) member(id string, change ...func(*libcluster.Config)) *libcluster.Cluster {
	w.Helper()
	c := w.instance(id, change...)
	require.NoError(w, c.Join(w.Context()))
	return c
}

func in(mode libcluster.Mode) func(*libcluster.Config) {
	return func(c *libcluster.Config) { c.Mode = mode }
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// scrape returns what a server of Prometheus gets.
func (w *world) scrape() string {
	w.Helper()
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(w, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).
		ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(w, 200, answer.Code, answer.Body)
	return answer.Body.String()
}

// values are the samples of one instance, without the labels that all of its metrics have, and
// without buckets.
func (w *world) values(id string) map[string]string {
	w.Helper()
	values := map[string]string{}
	for line := range strings.Lines(w.scrape()) {
		if strings.HasPrefix(line, "#") || strings.Contains(line, "_bucket{") || !strings.Contains(line, `id="`+id+`"`) {
			continue
		}
		sample, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		name, labels, _ := strings.Cut(sample, "{")
		for label := range strings.SplitSeq(labels, ",") {
			what, is, _ := strings.Cut(label, "=")
			switch what {
			case "key", "partition_name", "env", "id":
			default:
				name += " " + strings.Trim(is, `"`)
			}
		}
		values[strings.TrimPrefix(name, "libcluster_")] = value
	}
	return values
}
