package service

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/altyn-pay/altyn/platform/config"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
)

// Archive is the settings of the command archive.
type Archive struct {
	Older      time.Duration `flag:"older" value:"DURATION" required:"true" help:"how long ago rows have come to their end, such as 8760h"`
	Every      time.Duration `flag:"every" value:"DURATION" help:"go on, and begin again so often (default: once)"`
	Load       int           `flag:"load" value:"PERCENT" default:"25" help:"the share of the time for which it works, in one session of the database"`
	Tablespace string        `flag:"tablespace" value:"NAME" help:"where tables and indexes of the archive are made (default: that of the database)"`
}

// Validate checks the times and the share.
func (a Archive) Validate() error {
	switch {
	case a.Older < 0:
		return config.Invalid("--older", "must not be negative")
	case a.Every != 0 && a.Every < time.Minute:
		return config.Invalid("--every", "must be at least 1m")
	case a.Load < 1 || a.Load > 100:
		return config.Invalid("--load", "must be 1 to 100")
	}
	return nil
}

func archiveCommand[T any](of func(T) Program) config.Command {
	type settings struct {
		Service T
		Archive Archive
	}
	c := config.NewCommand("archive", "move what is final and old to the archive, as the owner of the database",
		func(ctx context.Context, s settings) error { return archive(ctx, os.Stdout, of(s.Service), s.Archive) })
	c.About = `It runs beside the service, which finds what was moved like anything else. It may be stopped at any time,
and run again.`
	c.Examples = []string{"--older 8760h", "--older 8760h --every 24h --tablespace cheap"}
	return c
}

func archive(ctx context.Context, out io.Writer, p Program, s Archive) error {
	db, err := p.openOwner(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	const every = 2 * time.Second
	told := time.Now()
	for {
		began := time.Now()
		moved, err := pg.Archive(ctx, db, p.Archived, pg.Archiving{Before: began.Add(-s.Older), Load: s.Load,
			Tablespace: s.Tablespace, Progress: func(table string, done, all int64) {
				if time.Since(told) >= every {
					told = time.Now()
					fmt.Fprintf(out, "%s: %d of %d pages\n", table, done, all)
				}
			}})
		fmt.Fprintf(out, "%d rows were moved to the archive in %s\n", moved, time.Since(began).Round(time.Millisecond))
		if err != nil && ctx.Err() == nil {
			return err
		}
		if s.Every == 0 || !stage.Wait(ctx, s.Every-time.Since(began)) {
			return nil
		}
	}
}
