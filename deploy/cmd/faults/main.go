// Command faults harms a stack of its own while clients work on it, and looks what was lost.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/deploy/faults"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

func main() {
	localkafka.Child()
	os.Exit(config.Program{Name: "faults", About: about,
		Commands: []config.Command{config.NewCommand("", "", run)}}.Main())
}

const about = `faults starts a stack of its own, on free ports and with temporary data, with two instances of each
service. Clients place orders and move money on it, while processes are killed and paused, links between them are cut,
disks fill up and clocks step. After each round of 25 injections everything must come to its end by itself: the books
are audited, both services compared, and what every client was told must have an order that explains it. The exit code
is 0 if nothing was found, and 1 if something is wrong. docs/faults.md says more.`

// settings of a run.
type settings struct {
	Seed       uint64        `flag:"seed" env:"SEED" value:"NUMBER" help:"of what is injected; default: another one each time"`
	Injections int           `flag:"injections" env:"INJECTIONS" default:"100" help:"how many faults are injected"`
	Time       time.Duration `flag:"time" env:"TIME" value:"DURATION" help:"begin no more rounds after this time"`
	Brokers    int           `flag:"brokers" env:"BROKERS" default:"1" help:"1 or 3 brokers of Apache Kafka; of 3, 2 must have each message"`
	Standby    bool          `flag:"standby" env:"STANDBY" help:"PostgreSQL has a synchronous standby: killed, it is not started again; the standby is promoted, and gets one of its own"`
	Groups     int           `flag:"groups" env:"GROUPS" default:"4" help:"groups of four clients"`
	Kinds      []string      `flag:"kinds" env:"KINDS" value:"KINDS" help:"what is injected, of: killed, lost (with --standby), paused, cut, disk full, clock; default: all"`
	Together   int           `flag:"together" env:"TOGETHER" default:"2" help:"how many faults there may be at a time"`
	Out        string        `flag:"out" env:"OUT" value:"FILE" help:"where the report is written too"`
}

// Validate checks the numbers and names.
func (s settings) Validate() error {
	var errs []error
	for name, n := range map[string]int{"--injections": s.Injections, "--groups": s.Groups, "--together": s.Together} {
		if n < 1 {
			errs = append(errs, config.Invalid(name, "must be at least 1"))
		}
	}
	if s.Brokers != 1 && s.Brokers != localkafka.MaxReplicas {
		errs = append(errs, config.Invalid("--brokers", "must be 1 or %d", localkafka.MaxReplicas))
	}
	for _, kind := range s.Kinds {
		if !slices.Contains(faults.Kinds(), faults.Kind(kind)) {
			errs = append(errs, config.Invalid("--kinds", "%q is no kind", kind))
		}
	}
	return errors.Join(errs...)
}

func say(line string) { fmt.Fprintln(os.Stderr, time.Now().Format(time.TimeOnly), line) }

func run(ctx context.Context, s settings) (err error) {
	if s.Seed == 0 {
		s.Seed = rand.Uint64()
	}
	say(fmt.Sprintf("seed %d", s.Seed))
	binaries, err := os.MkdirTemp("", "altyn-faults-programs-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(binaries)) }()
	if err := faults.Build(ctx, binaries); err != nil {
		return err
	}
	var without []string
	kafka := stack.Kafka{Kind: localkafka.Apache, Brokers: s.Brokers}
	if err := localkafka.ApacheAvailable(ctx); err != nil {
		if s.Brokers > 1 {
			return err
		}
		kafka.Kind = localkafka.Embedded
		without = append(without, fmt.Sprintf("links to Kafka were not cut: %v", err))
	}
	disks := faults.CanMount(ctx)
	if disks != nil {
		without = append(without, fmt.Sprintf("no disk was full: %v", disks))
	}
	site, err := faults.Start(ctx, faults.Options{Binaries: binaries, Kafka: kafka, Services: stack.Instances(2, 2, 0),
		Standby: s.Standby, Disks: disks == nil, Clocks: true, Progress: say})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	about := site.About()
	var kinds []faults.Kind
	for _, kind := range s.Kinds {
		kinds = append(kinds, faults.Kind(kind))
	}
	report, err := site.Run(ctx, faults.Plan{Injections: site.Draw(s.Seed, s.Injections, kinds...), Together: s.Together,
		Time: s.Time, Groups: s.Groups, Seed: s.Seed, Progress: say})
	s.print(os.Stdout, report, about, without)
	if s.Out != "" {
		var text strings.Builder
		s.print(&text, report, about, without)
		err = errors.Join(err, os.WriteFile(s.Out, []byte(text.String()), 0o644))
	}
	if err == nil && len(report.Findings) > 0 {
		return config.Exit(1)
	}
	return err
}

// print writes a report, in Markdown.
func (s settings) print(w io.Writer, r faults.Report, about string, without []string) {
	injected := 0
	for _, n := range r.Injected {
		injected += n
	}
	fmt.Fprintf(w, "Seed %d: %d injections in %d rounds, %s. %s; two instances of orders and of payments, a gateway.\n",
		s.Seed, injected, r.Rounds, r.Took.Round(time.Second), about)
	for _, line := range without {
		fmt.Fprintf(w, "\n**NOT RUN**: %s\n", line)
	}
	fmt.Fprintf(w, "\n%d orders and %d operations are stored. ", r.Orders, r.Operations)
	if quiet := slices.Sorted(slices.Values(r.Quiet)); len(quiet) > 0 {
		fmt.Fprintf(w, "From the last fault of a round until every client was answered: %s in the median, %s at most.\n",
			quiet[len(quiet)/2].Round(time.Millisecond), quiet[len(quiet)-1].Round(time.Millisecond))
	}
	table(w, "injected", r.Faults)
	table(w, "clients", r.Answered)
	for _, hand := range r.Hands {
		fmt.Fprintf(w, "\nBy hand, %s.\n", hand)
	}
	fmt.Fprintf(w, "\nFound: %d", len(r.Findings))
	if r.Undecided > 0 {
		fmt.Fprintf(w, " (%d histories took too long to check)", r.Undecided)
	}
	fmt.Fprintln(w)
	for _, finding := range r.Findings {
		fmt.Fprintf(w, "\n- %s\n", finding)
	}
}

func table(w io.Writer, title string, counts map[string]int) {
	fmt.Fprintf(w, "\n| %s | times |\n| --- | ---: |\n", title)
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "| %s | %d |\n", what, counts[what])
	}
}
