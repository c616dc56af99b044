package metrics_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/metrics"
)

const dashboard = "../deploy/grafana-dashboard.json"

// Only promtool can read a query.
var queries = flag.String("queries", "", "write the queries of the dashboard to this file, as rules of Prometheus")

// described are the names that a query may have: those of all families, and for a histogram what
// Prometheus makes of it.
func described(t *testing.T) (names []string) {
	t.Helper()
	descs := make(chan *prometheus.Desc, 100)
	metrics.NewCollector(newWorld(t).instance("a")).Describe(descs)
	close(descs)
	name := regexp.MustCompile(`fqName: "([^"]*)"`)
	for d := range descs {
		names = append(names, name.FindStringSubmatch(d.String())[1])
	}
	for line := range strings.Lines(readAll(t, golden)) {
		if of, is := strings.CutSuffix(strings.TrimSpace(line), " histogram"); is {
			of = strings.TrimPrefix(of, "# TYPE ")
			require.Contains(t, names, of)
			names = append(names, of+"_bucket", of+"_sum", of+"_count")
		}
	}
	return names
}

func TestAlertsAndDashboardUseOnlyMetricsThatExist(t *testing.T) {
	names := described(t)
	files, err := filepath.Glob("../deploy/*")
	require.NoError(t, err)
	require.Len(t, files, 3)
	for _, file := range files {
		used := regexp.MustCompile(`libcluster_\w+`).FindAllString(readAll(t, file), -1)
		require.NotEmpty(t, used, file)
		for _, name := range used {
			require.True(t, slices.Contains(names, name), "%s: there is no %s", file, name)
		}
	}
}

// board is what a dashboard of Grafana has, as far as it matters here.
type board struct {
	Title      string
	UID        string
	Templating struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
		}
	}
	Panels []struct {
		ID                 int
		Title, Description string
		GridPos            struct{ X, Y, W, H int }
		Targets            []struct{ Expr, RefID string }
	}
}

func TestDashboardIsWhole(t *testing.T) {
	var b board
	require.NoError(t, json.Unmarshal([]byte(readAll(t, dashboard)), &b))
	require.NotEmpty(t, b.UID)
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range b.Templating.List {
		variables[v.Name] = true
	}
	seen := map[int]bool{}
	rules := make([]map[string]string, 0, len(b.Panels))
	for _, p := range b.Panels {
		require.False(t, seen[p.ID], "two panels have the ID %d", p.ID)
		seen[p.ID] = true
		require.NotEmpty(t, p.Description, p.Title)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			for _, v := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
				require.True(t, variables[v[1]], "%s: there is no variable %s", p.Title, v[0])
			}
			rules = append(rules, map[string]string{
				"record": fmt.Sprintf("panel%d:%s", p.ID, target.RefID),
				"expr":   strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"),
			})
		}
	}
	require.Greater(t, len(rules), 10)
	if *queries != "" {
		text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": b.UID, "rules": rules}}}) // which is YAML
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(*queries, text, 0o600))
	}
}
