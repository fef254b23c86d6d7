package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// row is a line of the table of goals.
type row struct {
	title, rate, measured, goal string
	reached                     bool
}

func (r Report) rows() []row {
	var rows []row
	for _, result := range r.Results {
		measured := result.Figure.String() + " ×"
		if result.Figure == (Spread{}) {
			measured = result.latencies(func(l Latency) (p50, p99 float64) { return l.P50, l.P99 })
		}
		rows = append(rows, row{result.Title, perSecond(result.perSecond()), measured, result.Goal, result.Reached})
	}
	if r.Stored != nil {
		for _, result := range r.Stored.Results {
			rows = append(rows, row{fmt.Sprintf("%s, %s stored", result.Name, grouped(int64(r.Stored.Orders))),
				perSecond(Result{Rounds: result.Rounds}.perSecond()),
				result.OfEmpty.String() + " × empty", fmt.Sprintf("≥ %.1f × empty", storedTimes), result.Reached})
		}
	}
	if r.Soak != nil {
		rows = append(rows, row{grouped(int64(r.Soak.Orders)) + " orders in one go", perSecond(r.Soak.PerSecond),
			r.Soak.short(), "no growth", r.Soak.Reached})
	}
	if peak := r.peak(); peak > 0 {
		rows = append(rows, row{"peak RSS per service", "", fmt.Sprintf("%.0f MB", megabytes(peak)),
			fmt.Sprintf("≤ %.0f MB", megabytes(peakGoal)), peak <= peakGoal})
	}
	return rows
}

// peakGoal is the most memory that a service should take, in bytes.
const peakGoal = 100_000_000

func (r Report) peak() (peak int64) {
	for _, bytes := range r.PeakRSS {
		peak = max(peak, bytes)
	}
	return peak
}

func (s Spread) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Min, s.Max) }

func perSecond(rate float64) string { return fmt.Sprintf("%.0f/s", rate) }

// latencies returns the medians of two figures over the rounds.
func (r Result) latencies(figures func(Latency) (p50, p99 float64)) string {
	p50 := r.latency(func(l Latency) float64 { p50, _ := figures(l); return p50 })
	p99 := r.latency(func(l Latency) float64 { _, p99 := figures(l); return p99 })
	return fmt.Sprintf("%.1f / %.1f ms", p50, p99)
}

// print writes the tables.
func (r Report) print(out io.Writer) {
	fmt.Fprintf(out, "PostgreSQL %s, %s, %d cores, everything durable; %d clients, %d accounts, %s each; median of the "+
		"rounds (least–most)\n\n",
		r.Postgres, r.Kafka, r.Cores, r.Clients, r.Accounts, r.Duration)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "workload\trate\tmeasured\tgoal\t")
	if r.Pgbench != nil {
		fmt.Fprintf(table, "pgbench TPC-B (-c 8 -j 2 -M prepared -s 20)\t%.0f/s\t%.0f–%.0f/s\t\t\n", r.Pgbench.Median,
			r.Pgbench.Min, r.Pgbench.Max)
	}
	for _, row := range r.rows() {
		reached := "missed"
		if row.reached {
			reached = "reached"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", row.title, row.rate, row.measured, row.goal, reached)
	}
	table.Flush()
	r.printLatency(out)
	r.printCosts(out)
	r.printSoak(out)
	if r.Stored != nil {
		fmt.Fprintf(out, "\nStored: %s orders, %.1f GB, filled in %.0f s. Each workload was measured on the empty "+
			"database right before or after.\n",
			grouped(int64(r.Stored.Orders)), float64(r.Stored.Bytes)/1e9, r.Stored.FillSeconds)
	}
	if len(r.PeakRSS) > 0 {
		fmt.Fprint(out, "\nPeak RSS:")
		for _, name := range slices.Sorted(maps.Keys(r.PeakRSS)) {
			fmt.Fprintf(out, " %s %.0f MB", name, megabytes(r.PeakRSS[name]))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out)
	for _, name := range slices.Sorted(maps.Keys(r.Audits)) {
		fmt.Fprintf(out, "Audit of %s: %s.\n", name, r.Audits[name])
	}
}

func (r Report) printLatency(out io.Writer) {
	for _, result := range r.Results {
		if result.Figure != (Spread{}) {
			continue
		}
		late := 0
		for _, m := range result.Rounds {
			late += m.Latency.Late
		}
		fmt.Fprintf(out, "\nLatency counts from the time at which a request was due, as the client saw it; at most %.1f "+
			"ms. By the service's own times: %s.\n",
			slices.Max(result.each(func(m Measurement) float64 { return m.Latency.Max })),
			result.latencies(func(l Latency) (p50, p99 float64) { return l.ServiceP50, l.ServiceP99 }))
		if late > 0 {
			fmt.Fprintf(out, "The generator sent %d requests later than the next one was due, by %.1f ms at most.\n", late,
				slices.Max(result.each(func(m Measurement) float64 { return m.Latency.Latest })))
		}
	}
}

// printCosts writes what an operation of each workload costs: processor time by process, and write-ahead log.
func (r Report) printCosts(out io.Writer) {
	if len(r.Results) == 0 {
		return
	}
	processes := map[string]bool{}
	for _, result := range r.Results {
		for _, m := range result.Rounds {
			for name := range m.CPU {
				processes[name] = true
			}
		}
	}
	fmt.Fprint(out, "\nCPU per operation, in µs, and write-ahead log, in bytes (medians)\n\n")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(title string, cell func(Result) string) {
		fmt.Fprintf(table, "%s\t", title)
		for _, result := range r.Results {
			fmt.Fprintf(table, "%s\t", cell(result))
		}
		fmt.Fprintln(table)
	}
	line("", func(result Result) string { return result.Name })
	for _, name := range slices.Sorted(maps.Keys(processes)) {
		line(name, func(result Result) string {
			return fmt.Sprintf("%.0f", median(result.each(func(m Measurement) float64 { return m.CPU[name] })))
		})
	}
	if len(processes) > 0 {
		line("all", func(result Result) string {
			return fmt.Sprintf("%.0f", median(result.each(func(m Measurement) float64 {
				all := 0.0
				for _, cpu := range m.CPU {
					all += cpu
				}
				return all
			})))
		})
	}
	line("log bytes", func(result Result) string {
		return fmt.Sprintf("%.0f", median(result.each(func(m Measurement) float64 { return m.WAL })))
	})
	table.Flush()
}

func (s Soak) short() string {
	if len(s.Grows) == 0 {
		return "nothing grows"
	}
	return fmt.Sprintf("%d of %d figures grow", len(s.Grows), len(s.Growth))
}

func (s Soak) long() string {
	if len(s.Grows) == 0 {
		return s.short()
	}
	return s.short() + ": " + strings.Join(s.Grows, ", ")
}

func (r Report) printSoak(out io.Writer) {
	if r.Soak == nil {
		return
	}
	fmt.Fprintf(out, "\n%s orders in one go: %s.\n%s\n\n", grouped(int64(r.Soak.Orders)), r.Soak.long(), r.Soak.Rule)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tmiddle third → last third\tat most\t")
	for _, g := range r.Soak.Growth {
		if g.negligible() {
			continue
		}
		mark := ""
		if g.Grows() {
			mark = "grows"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", g.What, g, strings.TrimSuffix(fmt.Sprintf("%.1f", g.Most), ".0"), mark)
	}
	table.Flush()
	rates := make([]float64, len(r.Soak.Samples))
	for i, s := range r.Soak.Samples {
		rates[i] = s.PerSecond
	}
	all := spread(rates)
	fmt.Fprintf(out, "\nOrders per second between the samples: %.0f (%.0f–%.0f).\n", all.Median, all.Min, all.Max)
}
