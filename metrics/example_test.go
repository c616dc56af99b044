package metrics_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/metrics"
)

// As a rule the registry is prometheus.DefaultRegisterer, and the handler promhttp.Handler() on
// the application's own server.
func ExampleNewCollector() {
	cluster, err := libcluster.New(libcluster.Config{Key: "mailer", ID: "node2", Workers: 2, Registry: libcluster.Static(2, 7)})
	if err != nil {
		log.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewCollector(cluster))

	if err := cluster.Join(context.Background()); err != nil {
		log.Fatal(err)
	}
	defer cluster.Leave(context.Background())

	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, "libcluster_index") || strings.HasPrefix(line, "libcluster_total_workers") {
			fmt.Print(line)
		}
	}
	// Output:
	// libcluster_index{env="production",id="node2",key="mailer",partition_name=""} 2
	// libcluster_total_workers{env="production",id="node2",key="mailer",partition_name=""} 7
}
