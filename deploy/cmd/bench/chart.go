package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// The chart's measures, in pixels, and its colours, which can be told from white as well as from black.
const (
	chartWidth  = 860
	chartLeft   = 320 // of the bars
	chartRight  = 720
	chartTop    = 64
	chartRow    = 40
	chartBar    = 20
	chartText   = "#737b84"
	chartGrid   = "#737b8440"
	chartBlue   = "#4184e4"
	chartOrange = "#c96f1e"
	chartRed    = "#d6336c"
)

// chart draws a bar for the ratio of each workload to pgbench, with a whisker for the spread and a mark for the goal.
func (r Report) chart() []byte {
	var results []Result
	most := 1.0
	for _, result := range r.Results {
		if result.Ratio != (Spread{}) {
			results = append(results, result)
			most = max(most, result.Ratio.Max, r.goalRatio(result))
		}
	}
	step := math.Pow(2, math.Ceil(math.Log2(most/10))) // of the grid: ten lines or fewer
	end := math.Ceil(most/step) * step
	x := func(ratio float64) float64 { return chartLeft + (chartRight-chartLeft)*ratio/end }
	bottom := chartTop + chartRow*len(results)

	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="system-ui, sans-serif" font-size="13" fill="%s">`+"\n",
		chartWidth, bottom+64, chartText)
	text := func(x, y float64, anchor, format string, args ...any) {
		fmt.Fprintf(&svg, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(fmt.Sprintf(format, args...)))
	}
	line := func(x1, y1, x2, y2 float64, colour string, width float64) {
		fmt.Fprintf(&svg, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%.1f"/>`+"\n", x1, y1, x2, y2, colour, width)
	}
	fmt.Fprintln(&svg, `<title>Rates of Altyn's workloads as multiples of pgbench's</title>`)
	text(16, 26, "start", "Operations per second, as multiples of pgbench TPC-B on the same PostgreSQL in the same run")
	text(16, 46, "start", "PostgreSQL %s, %s, %d cores, everything durable, %s", r.Postgres, r.Kafka, r.Cores, r.At.Format("2006-01-02"))
	for ratio := 0.0; ratio <= end; ratio += step {
		line(x(ratio), chartTop, x(ratio), float64(bottom), chartGrid, 1)
		text(x(ratio), float64(bottom)+18, "middle", "%g", ratio)
	}
	for i, result := range results {
		top := float64(chartTop + chartRow*i + (chartRow-chartBar)/2)
		middle, colour := top+chartBar/2, chartBlue
		if !result.Reached {
			colour = chartOrange
		}
		text(chartLeft-10, middle+4.5, "end", "%s", result.Title)
		fmt.Fprintf(&svg, `<rect x="%d" y="%.1f" width="%.1f" height="%d" fill="%s" fill-opacity="0.7"/>`+"\n", chartLeft, top, x(result.Ratio.Median)-chartLeft, chartBar, colour)
		line(x(result.Ratio.Min), middle, x(result.Ratio.Max), middle, chartText, 1.5)
		line(x(result.Ratio.Min), middle-4, x(result.Ratio.Min), middle+4, chartText, 1.5)
		line(x(result.Ratio.Max), middle-4, x(result.Ratio.Max), middle+4, chartText, 1.5)
		goal := x(r.goalRatio(result))
		line(goal, top-5, goal, top+chartBar+5, chartRed, 3)
		text(chartRight+12, middle+4.5, "start", "%.2f × (%.0f/s)", result.Ratio.Median, result.perSecond())
	}
	text(16, float64(bottom)+48, "start", "Bar: median of the rounds (orange where the goal is missed). Whisker: least and most. Red line: goal.")
	fmt.Fprintln(&svg, `</svg>`)
	return svg.Bytes()
}

// goalRatio is a workload's goal as a ratio to pgbench. A goal beside another workload is set beside that one's median.
func (r Report) goalRatio(result Result) float64 {
	for _, w := range workloads {
		if w.name != result.Name {
			continue
		}
		if other, ok := r.result(w.goal.of); ok {
			return w.goal.times * other.Ratio.Median
		}
		return w.goal.times
	}
	return 0
}
