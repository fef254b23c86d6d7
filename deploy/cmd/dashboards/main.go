// Command dashboards writes the dashboards of Grafana into a folder, each as <uid>.json.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

//go:generate go run . ../../observability/dashboards

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dashboards FOLDER")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, page := range pages {
		built, err := page.build()
		if err != nil {
			return fmt.Errorf("%s: %w", page.uid, err)
		}
		text, err := json.MarshalIndent(built, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, page.uid+".json"), append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// page is a dashboard.
type page struct {
	uid, title, about string
	panels            []panel
}

// panel is a graph, or a figure where bad says from which value on it is red.
type panel struct {
	title, about string
	unit         string // of Grafana
	bad          *float64
	queries      []query
}

type query struct{ expr, legend string }

// source is the data source of deploy/observability/grafana.
var source = common.DataSourceRef{Type: new("prometheus"), Uid: new("prometheus")}

// The grid is 24 wide: six figures or three graphs in a row.
const (
	figureWidth, figureHeight = 4, 4
	graphWidth, graphHeight   = 8, 8
)

func (p page) build() (dashboard.Dashboard, error) {
	b := dashboard.NewDashboardBuilder(p.title).Uid(p.uid).Description(p.about).Tags([]string{"altyn"}).Readonly().
		Time("now-1h", "now").Refresh("10s").Timezone("browser").Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Link(dashboard.NewDashboardLinkBuilder("Altyn").Type(dashboard.DashboardLinkTypeDashboards).Tags([]string{"altyn"}).
			KeepTime(true)).
		Annotation(dashboard.NewAnnotationQueryBuilder().Name("alerts").Datasource(source).Enable(true).IconColor("red").
			Expr(`ALERTS{alertstate="firing", severity="page"}`))
	for _, panel := range p.panels {
		b.WithPanel(panel.build())
	}
	return b.Build()
}

func (p panel) build() cog.Builder[dashboard.Panel] {
	if p.bad == nil {
		graph := timeseries.NewPanelBuilder().Title(p.title).Description(p.about).Datasource(source).Unit(p.unit).AxisSoftMin(0).
			FillOpacity(8).Span(graphWidth).Height(graphHeight).
			Legend(common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeList).
				Placement(common.LegendPlacementBottom).ShowLegend(true))
		for i, q := range p.queries {
			graph.WithTarget(q.build(i).Range())
		}
		return graph
	}
	figure := stat.NewPanelBuilder().Title(p.title).Description(p.about).Datasource(source).Unit(p.unit).
		Span(figureWidth).Height(figureHeight).ColorMode(common.BigValueColorModeBackground).NoValue("–").
		Thresholds(dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).
			Steps([]dashboard.Threshold{{Color: "green"}, {Color: "red", Value: p.bad}}))
	for i, q := range p.queries {
		figure.WithTarget(q.build(i).Range())
	}
	return figure
}

func (q query) build(i int) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Datasource(source).Expr(q.expr).LegendFormat(q.legend).RefId(string(rune('A' + i)))
}
