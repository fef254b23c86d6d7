package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/altyn-pay/altyn/platform/config"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/service"
)

// Distribute is the settings of the command distribute.
type Distribute struct {
	Shards int `flag:"shards" value:"N" default:"16" help:"into how many parts the lanes are split, when tables are distributed for the first time"`
	service.Database
}

// Validate checks the number of shards.
func (d Distribute) Validate() error {
	if d.Shards < 1 || d.Shards > maxShards {
		return config.Invalid("--shards", "must be 1 to %d", maxShards)
	}
	return nil
}

// maxShards is how many of them would still have a lane each, more or less.
const maxShards = 64

func distributeCommand() config.Command {
	c := config.NewCommand("distribute", "spread the tables over the nodes of Citus by lane, as their owner",
		func(ctx context.Context, d Distribute) error { return distribute(ctx, os.Stdout, d) })
	c.About = `A superuser has created the extension citus in this database and on the nodes before, and has added the
nodes. Nothing else may run on the database meanwhile. It may be run again: what is distributed stays as it is.`
	return c
}

func distribute(ctx context.Context, out io.Writer, d Distribute) error {
	cfg, err := d.Database.Owner(name)
	if err != nil {
		return err
	}
	return pg.Distribute(ctx, cfg, d.Shards, func(done, all int, table string) {
		fmt.Fprintf(out, "%d of %d tables: %s is distributed\n", done, all, table)
	})
}
