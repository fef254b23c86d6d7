package service

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/config"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Erase is the settings of the command erase.
type Erase struct {
	Operator Operator
	Account  uuid.UUID `flag:"account" value:"ID" required:"true" help:"whose personal data to erase"`
}

// Erasure is how a service erases the personal data of an account: what clients have written, who has asked, and what
// is made of either. Amounts, IDs, times, statuses and codes stay.
type Erasure struct {
	Steps  []Erasing
	Rests  []Rest
	Tables []string // that the steps change
}

// Erasing erases what is in a page of an account's rows, as the owner of the tables. It returns how many rows it has
// changed, and the position after the page, or 0 at the end. What is not at its end yet stays as it is.
type Erasing func(ctx context.Context, tx *sqlx.Tx, after int64) (rows, next int64, err error)

// Rest counts what could not be erased yet.
type Rest struct {
	What  string
	Query string // $1 is the account's ID, as a text
}

// Rests are those of the tables that every service has.
func Rests(more ...Rest) []Rest {
	return append(more, Rest{"messages of the outbox have not been published", `
		SELECT coalesce(sum(count), 0) FROM (
			SELECT count FROM outbox WHERE position($1 IN messages) > 0
			UNION ALL SELECT count FROM outbox_waiting WHERE position($1 IN messages) > 0
			UNION ALL SELECT 1 FROM outbox_parked WHERE key = $1 OR position($1 IN payload) > 0
		) o`})
}

func eraseCommand[T any](of func(T) Program) config.Command {
	type settings struct {
		Service T
		Erase   Erase
	}
	c := config.NewCommand("erase", "erase the personal data of an account, as the owner of the database",
		func(ctx context.Context, s settings) error {
			return EraseAccount(ctx, os.Stdout, of(s.Service), s.Erase)
		})
	c.About = `Owner, subjects, references, descriptions, notes and keys of the account become empty for good; amounts,
IDs, times and statuses stay. It runs beside the service, and may be run again. The exit code is 0 if everything is
erased, and 1 if something has to come to its end first, which is named.`
	c.Examples = []string{"--account 0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11 --reason 'asked for in ticket 42'"}
	return c
}

// EraseAccount erases the personal data of an account and prints what is left.
func EraseAccount(ctx context.Context, out io.Writer, p Program, s Erase) error {
	who, err := s.Operator.Identify(ctx, p.Config.Auth, p.logger())
	if err != nil {
		return err
	}
	db, err := p.openOwner(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	act, err := actions.New(who, actions.Erase, s.Account.String(), s.Operator.Reason, struct{}{})
	if err != nil {
		return err
	}
	erasure := p.Erasure(s.Account)
	rows, err := erasure.run(ctx, db, act, out)
	if err != nil {
		return fmt.Errorf("%d rows were erased: %w", rows, err)
	}
	fmt.Fprintf(out, "%d rows were erased\n", rows)
	left := false
	for _, rest := range erasure.Rests {
		var n int64
		if err := db.GetContext(ctx, &n, rest.Query, s.Account.String()); err != nil {
			return fmt.Errorf("look for what is left: %w", err)
		}
		if n > 0 {
			left = true
			fmt.Fprintf(out, "left: %d %s\n", n, rest.What)
		}
	}
	if left {
		fmt.Fprintln(out, "run it again when that has come to its end")
		return config.Exit(1)
	}
	return nil
}

// run takes the steps, page by page. Each page is recorded with the action, which is written down once.
func (e Erasure) run(ctx context.Context, db *sqlx.DB, act actions.Action, out io.Writer) (rows int64, err error) {
	const every = 2 * time.Second
	told := time.Now()
	steps := append(slices.Clone(e.Steps), func(ctx context.Context, tx *sqlx.Tx, _ int64) (int64, int64, error) {
		n, err := actions.EraseAbout(ctx, tx, act.Object)
		return n, 0, err
	})
	for _, step := range steps {
		for after, more := int64(0), true; more; {
			var n, next int64
			if err := pg.InTx(ctx, db, func(tx *sqlx.Tx) (err error) {
				if err = pg.LockArchive(ctx, tx); err != nil {
					return err
				}
				if n, next, err = step(ctx, tx, after); err != nil {
					return err
				}
				return actions.Append(ctx, tx, act)
			}); err != nil {
				return rows, err
			}
			rows += n
			after, more = next, next != 0
			if time.Since(told) >= every {
				told = time.Now()
				fmt.Fprintf(out, "%d rows so far\n", rows)
			}
		}
	}
	// What a row was before stays in the table, in its indexes and in the planner's statistics until then.
	tables := append(slices.Clone(e.Tables), "admin_actions")
	if err := db.SelectContext(ctx, &tables, `
		SELECT oid::regclass::text FROM pg_class WHERE oid = ANY($1::text[]::regclass[]) UNION ALL
		SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = ANY($1::text[]::regclass[])`,
		pg.Texts(tables)); err != nil {
		return rows, fmt.Errorf("vacuum: %w", err)
	}
	if _, err := db.ExecContext(ctx, `VACUUM (ANALYZE, INDEX_CLEANUP ON) `+strings.Join(tables, ", ")); err != nil {
		return rows, fmt.Errorf("vacuum: %w", err)
	}
	return rows, nil
}
