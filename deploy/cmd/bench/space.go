package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
)

// Space says what orders take in the databases.
type Space struct {
	Orders   int     `json:"orders"`
	PerOrder float64 `json:"bytes_per_order"`
	Reached  bool    `json:"reached"`
	Parts    []Part  `json:"parts"`    // the largest first
	Archive  []Part  `json:"archived"` // the same of the archive, once all was moved there
}

// Part is a table without its indexes, what is out of line of a table, or an index.
type Part struct {
	Name  string  `db:"name" json:"name"`
	Bytes float64 `db:"bytes" json:"bytes_per_order"`
	Reads float64 `db:"reads" json:"reads_per_order"` // scans of it; a batch has one for all of its rows
}

// spaceGoal is the most bytes that an order should take.
const spaceGoal = 1200

// parts are all that a schema of the services' databases consists of.
func (s *site) parts(ctx context.Context, schema string) (all []Part, err error) {
	for service, db := range map[string]*sqlx.DB{stack.Orders: s.orders, stack.Payments: s.billing} {
		var parts []Part
		if err := db.SelectContext(ctx, &parts, `
			SELECT $1 || '.' || name AS name, bytes, coalesce(reads, 0) AS reads FROM (
				SELECT schemaname::text, s.relname::text AS name, seq_scan AS reads,
					pg_table_size(relid) - coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0) AS bytes
				FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = relid
				UNION ALL
				SELECT relnamespace::regnamespace::text, relname || ', out of line', 0, pg_total_relation_size(reltoastrelid)
				FROM pg_class WHERE relkind = 'r' AND reltoastrelid <> 0
				UNION ALL
				SELECT schemaname, relname || ', index ' || indexrelname, idx_scan, pg_relation_size(indexrelid)
				FROM pg_stat_user_indexes
			) p WHERE schemaname = $2`, service, schema); err != nil {
			return nil, fmt.Errorf("sizes of %s: %w", service, err)
		}
		all = append(all, parts...)
	}
	return all, nil
}

// archive has a service move all orders to its archive.
func (b *bench) archive(ctx context.Context, s *site, service string) error {
	server := s.Server().Admin()
	command := exec.CommandContext(ctx, filepath.Join(b.binaries, service), "archive", "--older", "0s", "--load", "100")
	command.Env = append(os.Environ(), "POSTGRES_HOST="+server.Host, fmt.Sprintf("POSTGRES_PORT=%d", server.Port))
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s archive: %w: %s", service, err, output)
	}
	return nil
}

// space places orders, one per request, and says what they take, and what they take in the archive.
func (b *bench) space(ctx context.Context, s *site) error {
	before, err := s.parts(ctx, "public")
	if err != nil {
		return err
	}
	last, err := s.lastOrder(ctx)
	if err != nil {
		return err
	}
	if err := load.Each(ctx, b.Space, clients, func(i int) error { _, err := s.place(i); return err }); err != nil {
		return err
	}
	if err := s.final(ctx, last); err != nil {
		return err
	}
	space := Space{Orders: b.Space}
	if space.Parts, err = s.parts(ctx, "public"); err != nil {
		return err
	}
	space.Parts, space.PerOrder = perOrder(space.Parts, before, b.Space)
	for _, service := range []string{stack.Orders, stack.Payments} {
		if err := b.archive(ctx, s, service); err != nil {
			return err
		}
	}
	if space.Archive, err = s.parts(ctx, "archive"); err != nil {
		return err
	}
	space.Archive, _ = perOrder(space.Archive, nil, b.Space)
	space.Reached = space.PerOrder <= spaceGoal
	b.report.Space = &space
	return s.paid(ctx, last, b.Space)
}

// perOrder returns what each part has grown by since before, for each of so many orders, the largest first, and the
// sum.
func perOrder(parts, before []Part, orders int) (all []Part, sum float64) {
	for _, p := range parts {
		if n := slices.IndexFunc(before, func(was Part) bool { return was.Name == p.Name }); n >= 0 {
			p.Bytes, p.Reads = p.Bytes-before[n].Bytes, p.Reads-before[n].Reads
		}
		p.Bytes, p.Reads = p.Bytes/float64(orders), p.Reads/float64(orders)
		all = append(all, p)
		sum += p.Bytes
	}
	slices.SortFunc(all, func(a, b Part) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name))
	})
	return all, sum
}

func (s *Space) print(out io.Writer) {
	if s == nil {
		return
	}
	printParts(out, fmt.Sprintf("Bytes per order, of %d", s.Orders), s.Parts)
	printParts(out, "Bytes per order in the archive", s.Archive)
}

func printParts(out io.Writer, title string, parts []Part) {
	fmt.Fprintf(out, "\n%s\n\n", title)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "bytes\tscans\t")
	sum := 0.0
	for _, p := range parts {
		if sum += p.Bytes; p.Bytes >= 1 {
			fmt.Fprintf(table, "%.0f\t%.3f\t  %s\n", p.Bytes, p.Reads, p.Name)
		}
	}
	fmt.Fprintf(table, "%.0f\t\t  all\n", sum)
	table.Flush()
}
