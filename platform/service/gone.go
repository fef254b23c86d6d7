package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/altyn-pay/altyn/platform/config"
)

// Gone is the settings of the command gone.
type Gone struct {
	Since Moment  `flag:"since" value:"TIME" help:"the moment whose state the database has got, as in 2026-01-02T15:04:05Z"`
	Lost  Address `flag:"lost" value:"HOST:PORT" help:"where the lost database can be read"`
}

// Validate checks that nothing is missing.
func (g Gone) Validate() error {
	switch {
	case g.Since.IsZero():
		return config.Invalid("--since", "is required")
	case g.Lost.Port == 0:
		return config.Invalid("--lost", "is required")
	}
	return nil
}

// Address is that of a server.
type Address struct {
	Host string
	Port uint16
}

// UnmarshalText reads host:port.
func (a *Address) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	number, errPort := strconv.ParseUint(port, 10, 16)
	if errors.Join(err, errPort) != nil {
		return errors.New("must be HOST:PORT")
	}
	a.Host, a.Port = host, uint16(number)
	return nil
}

func goneCommand[T any](of func(T) Program) config.Command {
	type settings struct {
		Service T
		Gone    Gone
	}
	c := config.NewCommand("gone", "list what a database has that was lost, and the restored one has not",
		func(ctx context.Context, s settings) error { return gone(ctx, os.Stdout, of(s.Service), s.Gone) })
	c.About = `The lost database is read as it was left, or restored once more to the end of its archive, elsewhere. Both
have the same names and roles. Each line is something that a client was told, and that the restored database does not
know.`
	c.Examples = []string{"--since 2026-01-02T15:04:05Z --lost 127.0.0.1:5433"}
	return c
}

// settling is longer than between the time that something is given and its commit.
const settling = time.Minute

func gone(ctx context.Context, out io.Writer, p Program, s Gone) error {
	kept := map[string]bool{}
	if err := acknowledged(ctx, p, s.Since.Time, func(line string) error {
		kept[line] = true
		return nil
	}); err != nil {
		return err
	}
	p.Config.Postgres.Host, p.Config.Postgres.Port = s.Lost.Host, s.Lost.Port
	n := 0
	if err := acknowledged(ctx, p, s.Since.Time, func(line string) error {
		if kept[line] {
			return nil
		}
		n++
		_, err := fmt.Fprintln(out, line)
		return err
	}); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%d are gone\n", n)
	return err
}

// acknowledged calls each with a line for what a program's database has since a moment.
func acknowledged(ctx context.Context, p Program, since time.Time, each func(line string) error) error {
	db, err := p.openOwner(ctx) // whose statements may take long
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, p.Acknowledged, since.Add(-settling))
	if err != nil {
		return fmt.Errorf("read what %s has: %w", p.Config.Postgres.Address(), err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		if err := each(line); err != nil {
			return err
		}
	}
	return rows.Err()
}
