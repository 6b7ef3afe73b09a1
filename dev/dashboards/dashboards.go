// Package dashboards makes the Grafana dashboards of the chart, so that queries, units and layout are written once.
package dashboards

import (
	"encoding/json"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// Query is one query of a panel, with the legend of its series.
type Query struct{ Expr, Legend string }

// panel is a time series. Panels of a row have the same width.
type panel struct {
	title, description, unit string
	queries                  []Query
	// Whether the newest value is shown instead of a graph.
	single bool
}

type row struct {
	title  string
	panels []panel
}

type board struct {
	file, title, description string
	// Whether the viewer chooses one pipeline.
	chosen bool
	rows   []row
}

const (
	chosen = `namespace="$namespace", pipeline="$pipeline"`
	width  = 24
	height = 8
)

// JSON gives each dashboard by the name of its file.
func JSON() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, one := range boards {
		built, err := one.build()
		if err != nil {
			return nil, err
		}
		text, err := json.MarshalIndent(built, "", "  ")
		if err != nil {
			return nil, err
		}
		files[one.file] = append(text, '\n')
	}
	return files, nil
}

// Queries gives all queries of the dashboards by the title of their panel, with the variables in them.
func Queries() map[string][]Query {
	found := map[string][]Query{}
	for _, board := range boards {
		for _, row := range board.rows {
			for _, panel := range row.panels {
				found[board.title+": "+panel.title] = panel.queries
			}
		}
	}
	return found
}

func (b board) build() (dashboard.Dashboard, error) {
	builder := dashboard.NewDashboardBuilder(b.title).
		Uid("herd-"+b.file[:len(b.file)-len(".json")]).
		Description(b.description).
		Tags([]string{"herd"}).
		Refresh("30s").
		Time("now-1h", "now").
		Timezone(common.TimeZoneBrowser).
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"))
	if b.chosen {
		builder.
			WithVariable(variable("namespace", "Namespace", "label_values(herd_pipeline_status_condition, namespace)")).
			WithVariable(variable("pipeline", "Pipeline", `label_values(herd_pipeline_status_condition{namespace="$namespace"}, pipeline)`))
	}
	for _, row := range b.rows {
		builder.WithRow(dashboard.NewRowBuilder(row.title))
		for _, panel := range row.panels {
			span := uint32(width / len(row.panels))
			if panel.single {
				builder.WithPanel(panel.stat(span))
			} else {
				builder.WithPanel(panel.graph(span))
			}
		}
	}
	return builder.Build()
}

func variable(name, label, query string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).
		Label(label).
		Datasource(source()).
		Query(dashboard.StringOrMap{String: &query}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortAlphabeticalAsc)
}

func source() common.DataSourceRef {
	kind, uid := "prometheus", "${datasource}"
	return common.DataSourceRef{Type: &kind, Uid: &uid}
}

func (p panel) graph(span uint32) *timeseries.PanelBuilder {
	builder := timeseries.NewPanelBuilder().
		Title(p.title).
		Description(p.description).
		Datasource(source()).
		Unit(p.unit).
		Min(0).
		Span(span).
		Height(height).
		FillOpacity(10).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti)).
		Legend(common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom).ShowLegend(true))
	for _, query := range p.queries {
		builder.WithTarget(prometheus.NewDataqueryBuilder().Expr(query.Expr).LegendFormat(query.Legend))
	}
	return builder
}

func (p panel) stat(span uint32) *stat.PanelBuilder {
	builder := stat.NewPanelBuilder().
		Title(p.title).
		Description(p.description).
		Datasource(source()).
		Unit(p.unit).
		Span(span).
		Height(height / 2)
	for _, query := range p.queries {
		builder.WithTarget(prometheus.NewDataqueryBuilder().Expr(query.Expr).LegendFormat(query.Legend).Instant())
	}
	return builder
}
