package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
)

// Restored is the settings of the command restored.
type Restored struct {
	Operator Operator
	To       Moment        `flag:"to" value:"TIME" help:"the moment whose state the database has got, as in 2026-01-02T15:04:05Z"`
	Margin   time.Duration `flag:"margin" value:"DURATION" default:"1m" help:"how much earlier the reading of topics begins, as the clocks of brokers and database differ"`
}

// Moment is a time in the settings of a command.
type Moment struct{ time.Time }

// UnmarshalText reads a time.
func (m *Moment) UnmarshalText(text []byte) error {
	if m.Time.UnmarshalText(text) != nil {
		return errors.New("must be a time, as in 2026-01-02T15:04:05Z")
	}
	return nil
}

// Validate checks the times.
func (r Restored) Validate() error {
	switch {
	case r.To.IsZero():
		return config.Invalid("--to", "is required")
	case r.To.After(time.Now()):
		return config.Invalid("--to", "must not be in the future")
	case r.Margin < 0:
		return config.Invalid("--margin", "must not be negative")
	}
	return nil
}

// from is where the reading of topics begins.
func (r Restored) from() time.Time { return r.To.Add(-r.Margin) }

// Restoration is what a service does by itself once its database has got the state of an earlier moment, as the owner
// of the database. It may be done several times.
type Restoration func(ctx context.Context, r Restoring) error

// Restoring is what a Restoration works with.
type Restoring struct {
	Program Program
	Owner   *sqlx.DB
	To      time.Time // the moment
	From    time.Time // what the broker has got since then is read again
	Out     io.Writer
}

func restoredCommand[T any](of func(T) Program) config.Command {
	type settings struct {
		Service  T
		Restored Restored
	}
	c := config.NewCommand("restored", "go on after the database has got the state of an earlier moment",
		func(ctx context.Context, s settings) error {
			return restored(ctx, os.Stdout, of(s.Service), s.Restored)
		})
	c.About = `It is run while no process of the service runs, as the owner of the database, and may be run again. The
service then reads once more what the broker has got since that moment. Afterwards, altyn reconcile --heal brings orders
and payments to agree.`
	c.Examples = []string{"--to 2026-01-02T15:04:05Z --reason 'the disk was lost'"}
	return c
}

func restored(ctx context.Context, out io.Writer, p Program, s Restored) error {
	who, err := s.Operator.Identify(ctx, p.Config.Auth, p.logger())
	if err != nil {
		return err
	}
	db, err := p.openOwner(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	act, err := actions.New(who, actions.Restored, contract.Time(s.To.Time).String(), s.Operator.Reason, struct{}{})
	if err != nil {
		return err
	}
	if err := actions.Record(ctx, db, []actions.Action{act}); err != nil {
		return err
	}
	// First, because it fails while the service runs.
	for _, topic := range p.Reads {
		n, err := rewind(ctx, p, topic, s.from())
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %d messages will be read again, from %s on\n", topic, n, contract.Time(s.from()))
	}
	return p.Restored(ctx, Restoring{Program: p, Owner: db, To: s.To.Time, From: s.from(), Out: out})
}

func rewind(ctx context.Context, p Program, topic string, to time.Time) (n int64, err error) {
	backlog, err := inspect.OpenBacklog(ctx, p.Config.Kafka, p.Name, topic)
	if err != nil {
		return 0, err
	}
	defer backlog.Close()
	if n, err = backlog.Rewind(ctx, to); err != nil {
		return 0, errors.Join(fmt.Errorf("every process of %s must be stopped, for so long that the broker knows it", p.Name),
			err)
	}
	return n, nil
}
