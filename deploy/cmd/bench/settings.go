package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

// settings are read from flags and variables.
type settings struct {
	duration time.Duration
	repeats  int
	clients  int
	accounts int
	kafka    localkafka.Kind
	measured map[string]bool // what is measured, by name
	rate     float64         // of the open loop, in orders per second
	stored   int
	soak     int
	out      string // "" for no file
}

// The parts that are no workloads: each has a stack of its own.
const (
	storedName = "stored"
	soakName   = "soak"
)

const about = `bench measures how many orders and billing operations Altyn settles per second, beside what pgbench (TPC-B, scale 20, -c 8 -j 2
-M prepared) does on the same PostgreSQL in the same run. It starts stacks of its own, durable, on free ports and with temporary
data, and removes them at the end.

The speed of a machine wanders, so it measures in rounds: each runs every workload, after a quarter of the time to warm up, and
pgbench for half of the time before and after each; a workload's ratio is to the mean of the two. Printed are the median of the
rounds and the spread. The books are audited after the measurements of each stack.

Workloads:
`

// A variable of the same name sets a flag that is not given, so that make can pass it on.
var variables = []string{"duration", "repeats", "workload", "kafka", "rate", "stored", "soak"}

// parse reads the flags. With --help the error is flag.ErrHelp, and the help is written to output.
func parse(args []string, getenv func(string) string, output io.Writer) (settings, error) {
	var s settings
	var names, kafka string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&names, "workload", "all", "`names` of the workloads, with commas between, or all (WORKLOAD)")
	flags.DurationVar(&s.duration, "duration", 10*time.Second, "how long each measurement takes (DURATION)")
	flags.IntVar(&s.repeats, "repeats", 3, "`rounds` of measurements (REPEATS)")
	flags.StringVar(&kafka, "kafka", "", "`kind` of broker: apache or embedded; default: Apache Kafka where it can run (KAFKA)")
	flags.IntVar(&s.stored, "stored", 10_000_000, "`orders` that are stored already when the workload stored begins (STORED)")
	flags.IntVar(&s.soak, "soak", 1_000_000, "`orders` of the workload soak (SOAK)")
	flags.Float64Var(&s.rate, "rate", openRate, "orders per `second` of the workload latency; its goal is for the default (RATE)")
	flags.IntVar(&s.clients, "clients", 64, "`clients` of the workloads with one order or operation per request")
	flags.IntVar(&s.accounts, "accounts", 1000, "`accounts` that the load is spread over")
	flags.StringVar(&s.out, "out", "", "`file` for the result as JSON, and beside it as a chart (.svg); default: "+defaultOut+"\nwhen all is measured, otherwise none")
	flags.Usage = func() {
		fmt.Fprint(output, about)
		for _, w := range workloads {
			fmt.Fprintf(output, "  %-15s%s: %s\n", w.name, w.title, w.goal)
		}
		fmt.Fprintf(output, "  %-15severy workload with a rate once more, with %s orders stored: %s\n", storedName, "-stored", storedGoal)
		fmt.Fprintf(output, "  %-15s%s orders in one go: %s\n\nFlags, with the variables that set some of them too:\n", soakName, "-soak", soakGoal)
		flags.PrintDefaults()
	}
	for _, name := range variables {
		if value := getenv(strings.ToUpper(name)); value != "" {
			if err := flags.Set(name, value); err != nil {
				return s, fmt.Errorf("%s: %w", strings.ToUpper(name), err)
			}
		}
	}
	if err := config.ParseFlags(flags, args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("there is no argument %q", flags.Arg(0))
	}
	s.kafka = localkafka.Kind(kafka)
	if !slices.Contains([]localkafka.Kind{"", localkafka.Apache, localkafka.Embedded}, s.kafka) {
		return s, fmt.Errorf("there is no kind of Kafka %q: apache or embedded", kafka)
	}
	if s.duration < time.Second || s.repeats < 1 || s.clients < 1 || s.accounts < 1 || !(s.rate >= 1) {
		return s, errors.New("a second, a round, a client, an account and an order per second are the least")
	}
	if s.stored < leastStored || s.soak < soakSamples {
		return s, fmt.Errorf("%d orders to be stored and %d of a soak are the least", leastStored, soakSamples)
	}
	var err error
	if s.measured, err = choose(names); err != nil {
		return s, err
	}
	if names == "all" && s.out == "" {
		root, err := stack.Root()
		if err != nil {
			return s, err
		}
		s.out = filepath.Join(root, defaultOut)
	}
	return s, nil
}

// defaultOut is the result of a whole run; that of a part must not replace it.
const defaultOut = "deploy/bench/latest.json"

// choose returns what is measured for the given names: with each what its goal refers to.
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
			return nil, fmt.Errorf("there is no workload %q: all, or some of %s", name, strings.Join(known, ", "))
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

// chosen are the workloads that are measured, in their order; with rated only those whose goal is a rate.
func (s settings) chosen(rated bool) []workload {
	return slices.DeleteFunc(slices.Clone(workloads), func(w workload) bool {
		return !s.measured[w.name] || rated && w.goal.of == ""
	})
}

// chartOut is where the chart goes.
func (s settings) chartOut() string { return strings.TrimSuffix(s.out, filepath.Ext(s.out)) + ".svg" }
