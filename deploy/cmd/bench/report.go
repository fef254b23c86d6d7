package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Report is the content of latest.json.
type Report struct {
	At       time.Time `json:"at"`
	Cores    int       `json:"cores"`
	Postgres string    `json:"postgres"`
	Kafka    string    `json:"kafka"`
	Duration string    `json:"duration"` // of each measurement
	Clients  int       `json:"clients"`
	Accounts int       `json:"accounts"`
	// Pgbench is the yardstick: TPC-B-like transactions per second, scale 20, -c 8 -j 2 -M prepared.
	Pgbench *Spread          `json:"pgbench_tps,omitempty"`
	Results []Result         `json:"workloads,omitempty"`
	Stored  *Stored          `json:"stored,omitempty"`
	Soak    *Soak            `json:"soak,omitempty"`
	PeakRSS map[string]int64 `json:"peak_rss_bytes"` // of each service, in all parts of the benchmark

	Audits map[string]string `json:"audits"` // what was found in the books, by what was measured
}

// Result is that of one workload over all rounds.
type Result struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Goal  string `json:"goal"`
	// Ratio is to pgbench. Figure is the ratio that the goal is about.
	Ratio   Spread        `json:"ratio_to_pgbench,omitzero"`
	Figure  Spread        `json:"figure,omitzero"`
	Reached bool          `json:"reached"`
	Rounds  []Measurement `json:"rounds"`
}

// Spread is the median of the rounds and their extremes.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	return Spread{median(values), slices.Min(values), slices.Max(values)}
}

// median returns the middle value, or the mean of the two in the middle; 0 of none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	return (values[(n-1)/2] + values[n/2]) / 2
}

func sorted(values []time.Duration) []time.Duration { return slices.Sorted(slices.Values(values)) }

// each returns a figure of every round.
func (r Result) each(figure func(Measurement) float64) []float64 {
	values := make([]float64, len(r.Rounds))
	for i, m := range r.Rounds {
		values[i] = figure(m)
	}
	return values
}

func (r Result) ratios() []float64 { return r.each(func(m Measurement) float64 { return m.Ratio }) }

func (r Result) perSecond() float64 {
	return median(r.each(func(m Measurement) float64 { return m.PerSecond }))
}

// latency returns the median of a figure of the latencies.
func (r Result) latency(figure func(Latency) float64) float64 {
	return median(r.each(func(m Measurement) float64 { return figure(*m.Latency) }))
}

// results judges the workloads by the rounds.
func results(workloads []workload, rounds []Round) []Result {
	var all []Result
	for _, w := range workloads {
		r := Result{Name: w.name, Title: w.title, Goal: w.goal.String()}
		var figures []float64
		for _, round := range rounds {
			m := round.Measurements[w.name]
			r.Rounds = append(r.Rounds, m)
			switch w.goal.of {
			case "":
			case pgbenchName:
				figures = append(figures, m.Ratio)
			default:
				figures = append(figures, m.PerSecond/round.Measurements[w.goal.of].PerSecond)
			}
		}
		if w.goal.of == "" {
			r.Reached = r.latency(func(l Latency) float64 { return l.P50 }) <= ms(w.goal.p50) &&
				r.latency(func(l Latency) float64 { return l.P99 }) <= ms(w.goal.p99)
		} else {
			r.Ratio, r.Figure = spread(r.ratios()), spread(figures)
			r.Reached = r.Figure.Median >= w.goal.times
		}
		all = append(all, r)
	}
	return all
}

// add adds what was measured on the empty database.
func (r *Report) add(workloads []workload, rounds []Round) {
	r.Results = results(workloads, rounds)
	r.Pgbench = pgbenchOf(rounds)
}

// pgbenchOf returns the yardstick's rate over the rounds, or nil if it was not measured.
func pgbenchOf(rounds []Round) *Spread {
	var tps []float64
	for _, round := range rounds {
		if round.PgbenchTPS > 0 {
			tps = append(tps, round.PgbenchTPS)
		}
	}
	if len(tps) == 0 {
		return nil
	}
	all := spread(tps)
	return &all
}

// write writes the report to a file.
func (r Report) write(out string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(out, append(text, '\n'), 0o644)
}

// grouped writes a number with commas between the thousands.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	var groups []string
	for len(text) > 3 {
		text, groups = text[:len(text)-3], append(groups, text[len(text)-3:])
	}
	slices.Reverse(groups)
	return strings.Join(append([]string{text}, groups...), ",")
}
