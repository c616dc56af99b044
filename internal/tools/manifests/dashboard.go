package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// dashboardMistakes are of each kind that checkDashboard finds.
var dashboardMistakes = []mistake{
	{`"schemaVersion": 39`, `"schemaVersoin": 39`},
	{`"editable": true`, `"editable": "true"`},
	{`"type": "stat"`, `"type": "statt"`},
	{`"colorMode":`, `"colourMode":`},
	{`"rowHeight": 0.9`, `"rowHeight": "0.9"`},
	{`"expr":`, `"query":`},
	{`"legendFormat":`, `"legend":`},
	{`"unit":`, `"units":`},
}

// panels are the kinds of panel whose options are known here.
var panels = func() map[string]bool {
	names := map[string]bool{}
	known := cog.NewRuntime()
	known.RegisterDataqueryVariant(prometheus.VariantConfig())
	for _, kind := range []variants.PanelcfgConfig{stat.VariantConfig(), statetimeline.VariantConfig(), timeseries.VariantConfig()} {
		known.RegisterPanelcfgVariant(kind)
		names[kind.Identifier] = true
	}
	return names
}()

// checkDashboard holds a dashboard to the schema that Grafana publishes.
func checkDashboard(text string) error {
	var all dashboard.Dashboard
	if err := strictly([]byte(text), &all); err != nil {
		return err
	}
	// That does not keep the panels, and reads what they say of their fields less strictly.
	var again struct {
		Panels []struct{ FieldConfig json.RawMessage }
	}
	if err := errors.Join(json.Unmarshal([]byte(text), &all), json.Unmarshal([]byte(text), &again)); err != nil {
		return err
	}
	for i, p := range again.Panels {
		if err := strictly(p.FieldConfig, new(dashboard.FieldConfigSource)); err != nil {
			return fmt.Errorf("panels[%d].fieldConfig.%w", i, err)
		}
	}
	for _, p := range all.Panels {
		if p.Panel != nil && !panels[p.Panel.Type] {
			return fmt.Errorf("panel %q is none of those whose options are known here: %v", p.Panel.Type, slices.Sorted(maps.Keys(panels)))
		}
	}
	return all.Validate()
}

// strictly reads what has to have all fields, and no others. What is fine may have an error without
// any.
func strictly(text []byte, into interface{ UnmarshalJSONStrict(raw []byte) error }) error {
	err := into.UnmarshalJSONStrict(text)
	var wrong cog.BuildErrors
	if errors.As(err, &wrong) && len(wrong) == 0 {
		return nil
	}
	return err
}
