package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// Report is the content of latest.json.
type Report struct {
	At       time.Time          `json:"at"`
	Cores    int                `json:"cores"`
	Postgres string             `json:"postgres"`
	Kafka    string             `json:"kafka"`
	Duration string             `json:"duration"` // of each measurement
	Clients  int                `json:"clients"`
	Accounts int                `json:"accounts"`
	Results  []Result           `json:"workloads,omitempty"` // beside pgbench
	Stored   *Stored            `json:"stored,omitempty"`
	Fairness *Fairness          `json:"fairness,omitempty"`
	Soak     *Soak              `json:"soak,omitempty"`
	Space    *Space             `json:"space,omitempty"`
	PeakRSS  map[string]float64 `json:"peak_rss_bytes"` // of each service, in all parts of the benchmark

	Audits map[string]string `json:"audits"` // what was found in the books, by what was measured
}

// Result is that of one workload over all rounds.
type Result struct {
	Name    string        `json:"name"`
	Title   string        `json:"title"`
	Goal    string        `json:"goal"`
	Ratio   Spread        `json:"ratio,omitzero"` // to the yardstick
	Reached bool          `json:"reached"`
	Rounds  []Measurement `json:"rounds"`
}

// Measurement is one run of a workload in one round.
type Measurement struct {
	Operations int     `json:"operations"`
	PerSecond  float64 `json:"per_second"`
	// Yardstick is the mean of its rates right before and after, and Ratio the ratio to it. Both are 0 for latencies.
	Yardstick float64  `json:"yardstick_per_second,omitempty"`
	Ratio     float64  `json:"ratio,omitempty"`
	Latency   *Latency `json:"latency,omitempty"`
	// CPU is the processor time of each process and WAL the bytes that PostgreSQL logged, both per operation. CPU is
	// empty where there is no /proc.
	CPU map[string]float64 `json:"cpu_us_per_operation,omitempty"`
	WAL float64            `json:"wal_bytes_per_operation"`
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

func (s Spread) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Min, s.Max) }

// median returns the middle value, or the mean of the two in the middle; 0 of none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	return (values[(n-1)/2] + values[n/2]) / 2
}

// each returns a figure of every round.
func (r Result) each(figure func(Measurement) float64) []float64 {
	values := make([]float64, len(r.Rounds))
	for i, m := range r.Rounds {
		values[i] = figure(m)
	}
	return values
}

func (r Result) perSecond() float64 {
	return median(r.each(func(m Measurement) float64 { return m.PerSecond }))
}

// latency returns the medians of the latencies.
func (r Result) latency() (p50, p99 float64) {
	return median(r.each(func(m Measurement) float64 { return m.Latency.P50 })),
		median(r.each(func(m Measurement) float64 { return m.Latency.P99 }))
}

// judge compares the rounds with a goal, which has a text.
func (r *Result) judge(g goal, text string) {
	r.Goal = text
	if g.times == 0 {
		p50, p99 := r.latency()
		r.Reached = p50 <= ms(g.p50) && p99 <= ms(g.p99)
		return
	}
	r.Ratio = spread(r.each(func(m Measurement) float64 { return m.Ratio }))
	r.Reached = r.Ratio.Median >= g.times
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

// peakGoal is the most memory that a service should take, in MB.
const peakGoal = 100

// print writes the tables.
func (r Report) print(out io.Writer) {
	fmt.Fprintf(out, "PostgreSQL %s, %s, %d cores, everything durable; %d clients, %d accounts, %s each; median of the "+
		"rounds (least–most)\n\n",
		r.Postgres, r.Kafka, r.Cores, r.Clients, r.Accounts, r.Duration)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(title, rate, measured, goal string, reached bool) {
		verdict := "missed"
		if reached {
			verdict = "reached"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", title, rate, measured, goal, verdict)
	}
	perSecond := func(rate float64) string { return fmt.Sprintf("%.0f/s", rate) }
	fmt.Fprintln(table, "workload\trate\tmeasured\tgoal\t")
	var tps []float64
	for _, result := range r.Results {
		measured := result.Ratio.String() + " ×"
		if result.Ratio == (Spread{}) {
			p50, p99 := result.latency()
			measured = fmt.Sprintf("%.1f / %.1f ms", p50, p99)
		} else {
			tps = append(tps, result.each(func(m Measurement) float64 { return m.Yardstick })...)
		}
		line(result.Title, perSecond(result.perSecond()), measured, result.Goal, result.Reached)
	}
	if s := r.Stored; s != nil {
		for _, result := range s.Results {
			line(fmt.Sprintf("%s, %d stored", result.Name, s.Orders), perSecond(result.perSecond()),
				result.Ratio.String()+" ×", result.Goal, result.Reached)
		}
	}
	if f := r.Fairness; f != nil {
		line(fmt.Sprintf("%d tenants beside one that sends %d × its share: p99", quietTenants, loudTimes), "",
			f.Ratio.String()+" ×", fairnessGoal, f.Reached)
	}
	if s := r.Soak; s != nil {
		line(fmt.Sprintf("%d orders in one go", s.Orders), perSecond(s.PerSecond), "", "no growth", s.Reached)
	}
	if s := r.Space; s != nil {
		line(fmt.Sprintf("bytes of an order, of %d", s.Orders), "", fmt.Sprintf("%.0f", s.PerOrder),
			fmt.Sprintf("≤ %d", spaceGoal), s.Reached)
	}
	if len(r.PeakRSS) > 0 {
		peak := slices.Max(slices.Collect(maps.Values(r.PeakRSS))) / 1e6
		line("peak RSS of a service", "", fmt.Sprintf("%.0f MB", peak), fmt.Sprintf("≤ %d MB", peakGoal), peak <= peakGoal)
	}
	table.Flush()
	if len(tps) > 0 {
		all := spread(tps)
		fmt.Fprintf(out, "\npgbench TPC-B (-c 8 -j 2 -M prepared -s 20): %.0f/s (%.0f–%.0f)\n", all.Median, all.Min, all.Max)
	}
	for _, result := range r.Results {
		for n, m := range result.Rounds {
			if l := m.Latency; l != nil && l.Late > 0 {
				fmt.Fprintf(out, "In round %d, %d requests were sent later than the next one was due, by %.1f ms at most.\n",
					n+1, l.Late, l.Latest)
			}
		}
	}
	if f := r.Fairness; f != nil {
		fmt.Fprintf(out, "\nTenants with %d orders/s each (p50 / p99): %.1f / %.1f ms alone, %.1f / %.1f ms beside one "+
			"of which %d were accepted and %d refused.\n", int(quietPart*share), f.Alone.P50, f.Alone.P99, f.Beside.P50,
			f.Beside.P99, f.Accepted, f.Refused)
	}
	r.printCosts(out)
	r.Soak.print(out)
	r.Space.print(out)
	if r.Stored != nil {
		fmt.Fprintf(out, "\n%d orders stored are %.1f GB.\n", r.Stored.Orders, float64(r.Stored.Bytes)/1e9)
	}
	fmt.Fprintln(out)
	for _, name := range slices.Sorted(maps.Keys(r.Audits)) {
		fmt.Fprintf(out, "Audit of %s: %s.\n", name, r.Audits[name])
	}
}

// printCosts writes what an operation of each workload costs: processor time by process, and write-ahead log.
func (r Report) printCosts(out io.Writer) {
	if len(r.Results) == 0 {
		return
	}
	costs := map[string][]float64{} // of each workload
	for i, result := range r.Results {
		for name := range result.Rounds[0].CPU {
			if costs[name] == nil {
				costs[name] = make([]float64, len(r.Results))
			}
			costs[name][i] = median(result.each(func(m Measurement) float64 { return m.CPU[name] }))
		}
	}
	fmt.Fprint(out, "\nCPU per operation, in µs, and write-ahead log, in bytes (medians)\n\n")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(title string, figure func(i int) float64) {
		fmt.Fprintf(table, "%s\t", title)
		for i := range r.Results {
			fmt.Fprintf(table, "%.0f\t", figure(i))
		}
		fmt.Fprintln(table)
	}
	for _, result := range r.Results {
		fmt.Fprintf(table, "\t%s", result.Name)
	}
	fmt.Fprintln(table, "\t")
	names := slices.Sorted(maps.Keys(costs))
	for _, name := range names {
		line(name, func(i int) float64 { return costs[name][i] })
	}
	line("all", func(i int) (all float64) {
		for _, name := range names {
			all += costs[name][i]
		}
		return all
	})
	line("log bytes", func(i int) float64 {
		return median(r.Results[i].each(func(m Measurement) float64 { return m.WAL }))
	})
	table.Flush()
}

func (s *Soak) print(out io.Writer) {
	if s == nil {
		return
	}
	fmt.Fprintf(out, "\n%d orders in one go. At most is 1.1 × the median of the middle third, and what comes and goes "+
		"beside.\n\n", s.Orders)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tmiddle third\tlast third\tat most\t")
	for _, g := range s.Growth {
		if max(g.Middle, g.Last) < 0.1 && !g.Grows() { // of what is empty all the time
			continue
		}
		mark := ""
		if g.Grows() {
			mark = "grows"
		}
		fmt.Fprintf(table, "%s\t%.1f\t%.1f\t%.1f\t%s\n", g.What, g.Middle, g.Last, g.Most, mark)
	}
	table.Flush()
}
