package service

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/altyn-pay/altyn/platform/audit"
	"github.com/altyn-pay/altyn/platform/config"
)

// Audit is the settings of the command audit.
type Audit struct {
	Load  int   `flag:"load" value:"PERCENT" default:"25" help:"the share of the time for which it works, in one session of the database"`
	After int64 `flag:"after" value:"PLACE" default:"-1" help:"look at nothing but what has changed after this place in the record of changes; each audit ends with such a place"`
	JSON  bool  `flag:"json" help:"print one JSON object for each row that is wrong"`
}

// Validate checks the share.
func (a Audit) Validate() error {
	if a.Load < 1 || a.Load > 100 {
		return config.Invalid("--load", "must be 1 to 100")
	}
	return nil
}

func auditCommand[T any](of func(T) Program) config.Command {
	type settings struct {
		Service T
		Audit   Audit
	}
	c := config.NewCommand("audit", "look for rows that contradict each other, and name them",
		func(ctx context.Context, s settings) error { return AuditBooks(ctx, os.Stdout, of(s.Service), s.Audit) })
	c.About = `It goes through all tables of the running system, in short looks, each of which sees one moment. The exit
code is 0 if nothing is wrong, 1 if something is, and 2 if it could not look.`
	c.Examples = []string{"", "--load 100", "--after 1234"}
	return c
}

// AuditBooks audits a service's books and prints what is wrong.
func AuditBooks(ctx context.Context, out io.Writer, p Program, s Audit) error {
	db, err := p.open()
	if err != nil {
		return config.Unseen{Err: err}
	}
	defer db.Close()
	const every = 2 * time.Second
	begin := time.Now()
	told := begin
	var r audit.Result
	if s.After < 0 {
		r, err = p.Books.Pass(ctx, db, s.Load, func(at audit.Place, r audit.Result) {
			if !s.JSON && time.Since(told) >= every {
				told = time.Now()
				fmt.Fprintf(out, "%d rows so far, %d are wrong, now at %s\n", r.Rows, len(r.Findings), at.Table)
			}
		})
	} else {
		r, err = p.Books.Follow(ctx, db, s.Load, s.After)
	}
	for _, f := range r.Findings {
		if !s.JSON {
			fmt.Fprintln(out, f)
		} else if err := json.NewEncoder(out).Encode(f); err != nil {
			return err
		}
	}
	if err != nil {
		return config.Unseen{Err: err}
	}
	if !s.JSON {
		fmt.Fprintf(out, "%d rows were looked at in %s, %d are wrong; go on with --after %d\n", r.Rows,
			time.Since(begin).Round(time.Millisecond), len(r.Findings), r.Next)
	}
	if len(r.Findings) > 0 {
		return config.Exit(1)
	}
	return nil
}
