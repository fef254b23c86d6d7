// Command drill has a service lose its database under load, gives it the state of a moment before, as
// docs/restoring.md says, and checks what became of everything that clients were told.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/altyn-pay/altyn/deploy/drill"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

const about = `drill starts a stack of its own, in which orders and payments have a PostgreSQL server each, with an
archive of its WAL. It takes a base backup, has clients place and cancel orders, confirm, reject and refund payments,
and deposit, withdraw and transfer money. Then a service loses its database, which gets the state of a moment at random
within that, by the steps of docs/restoring.md, while the other service and the broker go on. The drill checks that both
services agree and their books are right; that what was answered before that moment is there, and what was answered
after it is there or is named as gone; and that each account has, to the last unit, what is left of what is there. In
the end clients repeat what is gone.

With --standby the PostgreSQL is killed instead, and a standby takes over: nothing that was answered is gone.`

// settings of a run.
type settings struct {
	Database string          `flag:"database" value:"NAME" default:"both" help:"whose database is lost: orders, payments, or both in turn"`
	Standby  bool            `flag:"standby" help:"a synchronous standby takes over"`
	Stored   int             `flag:"orders" default:"10000" help:"orders that are stored already"`
	Rate     float64         `flag:"rate" default:"100" help:"clients that come per second"`
	Duration time.Duration   `flag:"duration" default:"30s" help:"how long they come"`
	Seed     uint64          `flag:"seed" help:"of what they do, and of the moment (default: at random)"`
	Kafka    localkafka.Kind `flag:"kafka" env:"KAFKA" value:"KIND" help:"apache or embedded; default: Apache Kafka where it can run"`
	Out      string          `flag:"out" value:"FILE" help:"where the reports are written as JSON, with each request that is gone"`
}

// Validate checks the names and numbers.
func (s settings) Validate() error {
	switch {
	case s.Database != stack.Orders && s.Database != stack.Payments && s.Database != "both":
		return config.Invalid("--database", "must be orders, payments or both")
	case s.Stored < 0:
		return config.Invalid("--orders", "must not be negative")
	case !(s.Rate >= 1): // nor NaN
		return config.Invalid("--rate", "must be at least 1")
	case s.Duration < time.Second:
		return config.Invalid("--duration", "must be at least 1s")
	}
	return nil
}

func main() {
	localkafka.Child()
	p := config.Program{Name: "drill", About: about, Commands: []config.Command{config.NewCommand("", "", run)}}
	os.Exit(p.Main())
}

func run(ctx context.Context, s settings) (err error) {
	if s.Seed == 0 {
		s.Seed = rand.Uint64()
	}
	fmt.Println("seed", s.Seed)
	binaries, err := os.MkdirTemp("", "altyn-drill-programs-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(binaries)) }()
	if err := stack.Build(ctx, binaries); err != nil {
		return err
	}
	began := time.Now()
	site, err := drill.Start(ctx, drill.Options{Binaries: binaries, Kafka: s.Kafka, Progress: func(line string) {
		fmt.Printf("%7.1f s  %s\n", time.Since(began).Seconds(), line)
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	if err := site.Store(ctx, s.Stored); err != nil {
		return err
	}
	lose := site.LoseAndRestore
	if s.Standby {
		lose = site.FailOverUnderLoad
	}
	var reports []drill.Report
	for _, database := range []string{stack.Orders, stack.Payments} {
		if s.Database != database && s.Database != "both" {
			continue
		}
		report, err := lose(ctx, database, drill.Load{Rate: s.Rate, Duration: s.Duration, Seed: s.Seed})
		if err != nil {
			return fmt.Errorf("%s: %w", database, err)
		}
		fmt.Println(report)
		reports = append(reports, report)
	}
	if s.Out == "" {
		return nil
	}
	text, err := json.MarshalIndent(reports, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.Out, append(text, '\n'), 0o644)
}
