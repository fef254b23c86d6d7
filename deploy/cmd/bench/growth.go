package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Sample is the state of the system after so many orders of a soak.
type Sample struct {
	Orders    int              `json:"orders"` // placed so far
	Seconds   float64          `json:"seconds"`
	PerSecond float64          `json:"per_second"` // since the sample before
	Depths    map[string]int64 `json:"queue_depths"`
	Tables    map[string]Table `json:"tables"`
	RSS       map[string]int64 `json:"rss_bytes"`
	Routines  map[string]int64 `json:"goroutines"`
}

// Table is the size of a table with its indexes, and its rows according to the statistics.
type Table struct {
	Bytes int64 `json:"bytes"`
	Live  int64 `json:"live"`
	Dead  int64 `json:"dead"`
}

// growing are the tables to which every order adds rows for good. All others must keep their size.
var growing = []string{"orders.orders", "orders.order_history", "payments.operations", "payments.entries",
	"payments.payments"}

// Growth compares a figure of the soak's middle third with its last third. In the first third the system reaches its
// size.
type Growth struct {
	What   string  `json:"what"`
	Middle float64 `json:"middle_third"`
	Last   float64 `json:"last_third"`
	Most   float64 `json:"at_most"` // for the last third: more is growth
	Unit   string  `json:"unit"`
}

// Grows reports whether the last third exceeds what the middle one allows.
func (g Growth) Grows() bool { return g.Last > g.Most }

// negligible reports whether a table or queue was practically empty all the time.
func (g Growth) negligible() bool {
	return g.Last == 0 && g.Middle == 0 || g.Unit == "MB" && max(g.Middle, g.Last) < 0.1
}

// The last third may exceed the middle one by a share, because figures wander, and by an amount, because some are
// small.
const (
	levelFactor = 1.1
	perOrder    = 1.25 // of bytes per order: the pages of an index are split in waves

	// Queues: what comes and goes between two runs of autovacuum.
	depthSlack     = 1000 // rows that wait
	queueSlack     = 4    // MB
	queueDeadSlack = 20_000

	// Other tables that keep their size, such as balances.
	sizeSlack = 1 // MB
	deadSlack = 2000

	shareSlack    = 5 // per cent of a growing table's rows that are dead: so many make autovacuum come
	memorySlack   = 4 // MB
	routinesSlack = 20
)

// growthRule puts the constants into words.
var growthRule = fmt.Sprintf("The rule: the median of the last third is at most %.2f × that of the middle third, "+
	"plus %d rows, %d MB and %d dead rows of a queue,\n"+
	"%d MB and %d dead rows of another table that keeps its size, dead rows that are %d %% of a table that grows, %d "+
	"MB of memory, %d goroutines.\n"+
	"Tables that grow do so by at most %.2f × as many bytes per order in the last third as in the middle third.",
	levelFactor, depthSlack, queueSlack, queueDeadSlack, sizeSlack, deadSlack, shareSlack, memorySlack, routinesSlack,
	perOrder)

// growth compares the last third of the samples with the middle one.
func growth(samples []Sample) []Growth {
	n := len(samples)
	first, middle, last := samples[:n/3], samples[n/3:n-n/3], samples[n-n/3:]
	var all []Growth
	level := func(what, unit string, slack float64, figure func(Sample) float64) {
		g := Growth{What: what, Unit: unit, Middle: medianOf(middle, figure), Last: medianOf(last, figure)}
		g.Most = g.Middle*levelFactor + slack
		all = append(all, g)
	}
	end := samples[n-1]
	for _, queue := range slices.Sorted(maps.Keys(end.Depths)) {
		level("waiting in "+queue, "rows", depthSlack, func(s Sample) float64 { return float64(s.Depths[queue]) })
	}
	for _, name := range slices.Sorted(maps.Keys(end.Tables)) {
		if !slices.Contains(growing, name) {
			size, dead := float64(sizeSlack), float64(deadSlack)
			if _, queue := end.Depths[name]; queue {
				size, dead = queueSlack, queueDeadSlack
			}
			level("size of "+name, "MB", size, func(s Sample) float64 { return megabytes(s.Tables[name].Bytes) })
			level("dead rows of "+name, "rows", dead, func(s Sample) float64 { return float64(s.Tables[name].Dead) })
			continue
		}
		level("dead rows of "+name, "%", shareSlack, func(s Sample) float64 {
			t := s.Tables[name]
			return 100 * float64(t.Dead) / float64(max(t.Live+t.Dead, 1))
		})
		added := func(from, to Sample) float64 {
			return float64(to.Tables[name].Bytes-from.Tables[name].Bytes) / float64(max(to.Orders-from.Orders, 1))
		}
		g := Growth{What: "size of " + name, Unit: "bytes per order",
			Middle: added(first[len(first)-1], middle[len(middle)-1]), Last: added(middle[len(middle)-1], end)}
		g.Most = g.Middle * perOrder
		all = append(all, g)
	}
	for _, service := range slices.Sorted(maps.Keys(end.RSS)) {
		level("memory of "+service, "MB", memorySlack, func(s Sample) float64 { return megabytes(s.RSS[service]) })
	}
	for _, service := range slices.Sorted(maps.Keys(end.Routines)) {
		level("goroutines of "+service, "", routinesSlack, func(s Sample) float64 { return float64(s.Routines[service]) })
	}
	return all
}

func medianOf(samples []Sample, figure func(Sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = figure(s)
	}
	return median(values)
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }

// verdict names what grows.
func verdict(all []Growth) (grows []string) {
	for _, g := range all {
		if g.Grows() {
			grows = append(grows, fmt.Sprintf("%s (%s)", g.What, g))
		}
	}
	return grows
}

func (g Growth) String() string {
	digits := 0
	if g.Middle < 100 && g.Last < 100 && g.Unit != "rows" && g.Unit != "" {
		digits = 1
	}
	return strings.TrimSpace(fmt.Sprintf("%.*f → %.*f %s", digits, g.Middle, digits, g.Last, g.Unit))
}
