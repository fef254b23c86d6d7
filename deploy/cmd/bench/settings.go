package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

// settings of a run.
type settings struct {
	Workload string          `flag:"workload" env:"WORKLOAD" value:"NAMES" default:"all" help:"workloads, with commas between, or all"`
	Duration time.Duration   `flag:"duration" env:"DURATION" default:"10s" help:"how long each measurement takes"`
	Repeats  int             `flag:"repeats" env:"REPEATS" default:"3" help:"rounds of measurements"`
	Kafka    localkafka.Kind `flag:"kafka" env:"KAFKA" value:"KIND" help:"apache or embedded; default: Apache Kafka where it can run"`
	Rate     float64         `flag:"rate" env:"RATE" default:"500" help:"orders per second of the workload latency; its goal is for the default"`
	Stored   int             `flag:"stored" env:"STORED" default:"10000000" help:"orders that are stored already when the workload stored begins"`
	Soak     int             `flag:"soak" env:"SOAK" default:"1000000" help:"orders of the workload soak"`
	Clients  int             `flag:"clients" default:"64" help:"clients of the workloads with one order or operation per request"`
	Accounts int             `flag:"accounts" default:"1000" help:"accounts that the load is spread over"`
	Out      string          `flag:"out" value:"FILE" help:"where the result is written as JSON; default: deploy/bench/latest.json when all is measured"`
}

// These parts are no workloads. Each has a stack of its own.
const (
	storedName = "stored"
	soakName   = "soak"
)

const about = `bench measures how many orders and billing operations Altyn settles per second, beside what pgbench
(TPC-B, scale 20, -c 8 -j 2 -M prepared) does on the same PostgreSQL in the same run. It starts stacks of its own,
durable, on free ports and with temporary data, and removes them at the end.

The speed of a machine wanders, so it measures in rounds: each runs every workload, after a quarter of the time to warm
up, and pgbench for half of the time before and after each; a workload's ratio is to the mean of the two. Printed are
the median of the rounds and the spread. The books are audited after the measurements of each stack.

Workloads:
`

func program(run func(context.Context, settings) error) config.Program {
	var text strings.Builder
	text.WriteString(about)
	for _, w := range workloads {
		fmt.Fprintf(&text, "  %-15s%s: %s\n", w.name, w.title, w.goal)
	}
	fmt.Fprintf(&text, "  %-15severy workload with a rate once more, with --stored orders stored: %s\n", storedName,
		storedGoal)
	fmt.Fprintf(&text, "  %-15s--soak orders in one go: %s\n", soakName, soakGoal)
	return config.Program{Name: "bench", About: text.String(), Commands: []config.Command{config.NewCommand("", "", run)}}
}

// Validate checks the names and numbers.
func (s settings) Validate() error {
	var errs []error
	if _, err := choose(s.Workload); err != nil {
		errs = append(errs, err)
	}
	if !slices.Contains([]localkafka.Kind{"", localkafka.Apache, localkafka.Embedded}, s.Kafka) {
		errs = append(errs, config.Invalid("--kafka", "must be apache or embedded"))
	}
	if s.Duration < time.Second {
		errs = append(errs, config.Invalid("--duration", "must be at least 1s"))
	}
	for _, n := range []struct {
		flag         string
		value, least int
	}{
		{"--repeats", s.Repeats, 1},
		{"--clients", s.Clients, 1},
		{"--accounts", s.Accounts, 1},
		{"--stored", s.Stored, leastStored},
		{"--soak", s.Soak, soakSamples},
	} {
		if n.value < n.least {
			errs = append(errs, config.Invalid(n.flag, "must be at least %d", n.least))
		}
	}
	if !(s.Rate >= 1) { // nor NaN
		errs = append(errs, config.Invalid("--rate", "must be at least 1"))
	}
	return errors.Join(errs...)
}

// file returns where to write the result; "" for nowhere. Only a whole run replaces the last result.
func (s settings) file() (string, error) {
	if s.Out != "" || s.Workload != "all" {
		return s.Out, nil
	}
	root, err := stack.Root()
	return filepath.Join(root, "deploy", "bench", "latest.json"), err
}

// choose returns what to measure for these names, including what their goals refer to.
func choose(names string) (map[string]bool, error) {
	known := []string{storedName, soakName}
	for _, w := range workloads {
		known = append(known, w.name)
	}
	chosen := map[string]bool{}
	for name := range strings.SplitSeq(names, ",") {
		switch name = strings.TrimSpace(name); {
		case name == "all":
			for _, name := range known {
				chosen[name] = true
			}
		case slices.Contains(known, name):
			chosen[name] = true
		default:
			return nil, config.Invalid("--workload", "must be all, or some of %s", strings.Join(known, ", "))
		}
	}
	rated := slices.DeleteFunc(slices.Clone(workloads), func(w workload) bool { return w.goal.of == "" })
	if chosen[storedName] && !slices.ContainsFunc(rated, func(w workload) bool { return chosen[w.name] }) {
		for _, w := range rated {
			chosen[w.name] = true
		}
	}
	for _, w := range rated {
		if chosen[w.name] && w.goal.of != pgbenchName {
			chosen[w.goal.of] = true
		}
	}
	return chosen, nil
}

// chosen returns the workloads to measure, in order; with rated only those whose goal is a rate.
func (b *bench) chosen(rated bool) []workload {
	return slices.DeleteFunc(slices.Clone(workloads), func(w workload) bool {
		return !b.measured[w.name] || rated && w.goal.of == ""
	})
}
