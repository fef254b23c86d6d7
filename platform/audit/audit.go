// Package audit looks for rows of a running service that contradict each other. What must not be is a table of rules:
// statements that return the IDs of what is wrong.
//
// A statement looks at a slice of one table: at some pages of it, or at the rows of some IDs. What it compares them
// with it finds by keys. So a look is short and has a snapshot of its own, which holds up no vacuum; and as every rule
// holds after each commit, what is under way is never taken for a mistake. A pass goes through all pages of all tables.
// Afterwards it is enough to look at what has changed, as the service itself has it on record; what is changed behind
// the service's back is found by the next pass.
//
// Keys cost a pass the most. Rows of different tables that were written together lie at corresponding places of them,
// so a pass goes through such tables side by side, and a [Sift] compares the slices by joining them. The rules are left
// the IDs that it cannot say are right.
package audit

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
)

// Books are what is audited.
type Books struct {
	Tables []Table
	Sifts  []Sift
	// Head is the end of the record of changes.
	Head func(ctx context.Context, db sqlx.QueryerContext) (int64, error)
	// Changed returns IDs that have changed after a place in the record, and the place after them; none, and the same
	// place, at its end. It may return more than have changed.
	Changed func(ctx context.Context, db sqlx.QueryerContext, after int64) (ids []uuid.UUID, next int64, err error)
}

// Table is a table of the books.
type Table struct {
	Name string
	// Of is the condition for the rows of the changed IDs $1, an array. It must be answered by an index.
	Of string
	// Named is the condition for the rows of the IDs that the rules return, if it is another one.
	Named string
	// Sifted says that a pass leaves the table to the sifts: by the rules it looks only at what they return.
	Sifted bool
	Rules  []Rule
}

// Sift is a statement about tables side by side. The slices that it sees have no row in common with those before and
// after, and all slices together have all rows. So a sift can tell by the rows before it alone that an ID is right, if
// it returns the ID of each row that is without those it belongs to: others of the same ID are in another slice then.
type Sift struct {
	Tables []string
	// ID is the column of the first table by which the rows of the others are found, as Table.Of says.
	ID string
	// Query returns the IDs, in the sense of Table.Of, for which there may be a rule that is broken, or null. {NAME} in it
	// stands for the slice of that table, as an item of FROM without its alias.
	Query string
}

// Rule is a statement about a table, which must return no row.
type Rule struct {
	Name string // unique
	What string // is wrong with a row that it returns
	// Query returns a UUID for each row that is wrong, and a text that tells it from others of the same UUID. {slice} in
	// it stands for the rows to look at, as an item of FROM without its alias.
	Query string
}

// Finding is something that is wrong.
type Finding struct {
	Rule   string    `db:"rule" json:"rule"`
	Table  string    `db:"-" json:"table"`
	What   string    `db:"-" json:"what"`
	ID     uuid.UUID `db:"id" json:"id"`
	Detail string    `db:"detail" json:"detail,omitempty"`
}

// String says what is wrong, for people.
func (f Finding) String() string {
	detail := ""
	if f.Detail != "" {
		detail = " (" + f.Detail + ")"
	}
	return fmt.Sprintf("%s %s%s %s [%s]", f.Table, f.ID, detail, f.What, f.Rule)
}

const (
	// A look at pages lasts about so long: else the next one is at twice as many, or at half of them.
	shortLook, longLook = 200 * time.Millisecond, 800 * time.Millisecond
	fewestPages         = 8
	mostPages           = 1 << 14
	// fewestSifted is the same for a sift: it is the cheaper the more rows it sees together.
	fewestSifted = 1024
	// reach is how many times as many pages of a table that is beside another one a look takes at most.
	reach = 8
	// maxIDs is how many IDs one look takes.
	maxIDs = 5000
	// maxFound is how many findings of one rule a look returns.
	maxFound = 1000
)

// slice is what a look looks at.
type slice struct {
	condition string
	args      []any
}

// of is the slice of the rows of changed IDs, named that of the IDs of findings.
func (t Table) of(ids []uuid.UUID) slice { return slice{t.Of, []any{pg.UUIDs(ids)}} }
func (t Table) named(ids []uuid.UUID) slice {
	return slice{cmp.Or(t.Named, t.Of), []any{pg.UUIDs(ids)}}
}

func pages(first, end int64) slice {
	return slice{fmt.Sprintf("ctid >= '(%d,0)' AND ctid < '(%d,0)'", first, end), nil}
}

// from is the slice as an item of FROM.
func (t Table) from(s slice) string {
	return "(SELECT * FROM " + t.Name + " WHERE " + s.condition + ")"
}

// look runs rules on a slice of the table, in one snapshot. It returns how many rows the slice has.
func (t Table) look(ctx context.Context, db *sqlx.DB, s slice, rules ...Rule) (rows int64, found []Finding, err error) {
	tx, err := db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return 0, nil, fmt.Errorf("audit: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	// What a slice is compared with is looked up row by row, however large the planner takes the slice to be.
	if _, err := tx.ExecContext(ctx, `SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
		SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off`); err != nil {
		return 0, nil, fmt.Errorf("audit: %w", err)
	}
	from := t.from(s)
	if err := tx.GetContext(ctx, &rows, `SELECT count(*) FROM `+from+` s`, s.args...); err != nil {
		return 0, nil, fmt.Errorf("audit of %s: %w", t.Name, err)
	}
	for _, rule := range rules {
		if rows == 0 {
			break
		}
		var wrong []Finding
		query := strings.ReplaceAll(rule.Query, "{slice}", from) + fmt.Sprintf(" LIMIT %d", maxFound)
		if err := tx.SelectContext(ctx, &wrong, `SELECT id, detail FROM (`+query+`) AS wrong (id, detail)`,
			s.args...); err != nil {
			return 0, nil, fmt.Errorf("audit of %s, %s: %w", t.Name, rule.Name, err)
		}
		for _, f := range wrong {
			found = append(found, Finding{Rule: rule.Name, Table: t.Name, What: rule.What, ID: f.ID, Detail: f.Detail})
		}
	}
	return rows, found, nil
}

// Place is how far an audit has come.
type Place struct {
	Table  string        `db:"table_name"` // that the pass is at; "" when it has ended
	Page   int64         `db:"page"`       // of the table, to look at next
	Beside pq.Int64Array `db:"beside"`     // pages of the tables beside it
	After  int64         `db:"after"`      // what comes after this place in the record of changes was not looked at yet
}

// Result is what an audit has found.
type Result struct {
	Rows     int64 // that were looked at
	Findings []Finding
	Next     int64 // the place in the record of changes from which on a later audit can go on
}

// errDistributed is why there is no audit on Citus: rules compare rows of several lanes, and their queries name none.
var errDistributed = errors.New("the tables are distributed by Citus: there is no audit of them, so set AUDIT=false")

// auditor audits books step by step.
type auditor struct {
	Books
	db *sqlx.DB
	n  int64 // pages of the next look
}

// steps are the sifts, and each other table by itself, without a query.
func (b Books) steps() []Sift {
	steps := slices.Clone(b.Sifts)
	for _, t := range b.Tables {
		if !t.Sifted && !slices.ContainsFunc(b.Sifts, func(s Sift) bool { return s.Tables[0] == t.Name }) {
			steps = append(steps, Sift{Tables: []string{t.Name}})
		}
	}
	return steps
}

// begin is where a pass begins with a step.
func begin(s Sift, after int64) Place {
	return Place{Table: s.Tables[0], Beside: make(pq.Int64Array, len(s.Tables)-1), After: after}
}

// table returns a table of the books.
func (b Books) table(name string) Table {
	return b.Tables[slices.IndexFunc(b.Tables, func(t Table) bool { return t.Name == name })]
}

// pass looks at the pages that are next in a pass, and returns the place after them.
func (a *auditor) pass(ctx context.Context, at Place, r *Result) (Place, error) {
	if pg.Distributed(a.db) {
		return at, errDistributed
	}
	steps := a.steps()
	i := slices.IndexFunc(steps, func(s Sift) bool { return s.Tables[0] == at.Table })
	if i < 0 || len(at.Beside) != len(steps[i].Tables)-1 { // of another version
		return begin(steps[0], at.After), nil
	}
	began, s, few := time.Now(), steps[i], int64(fewestPages)
	if s.Query != "" {
		few = fewestSifted
	}
	n := cmp.Or(a.n, few)
	first := append([]int64{at.Page}, at.Beside...)
	end, over, err := a.ends(ctx, s, first, n)
	if err != nil {
		return at, err
	}
	if s.Query != "" {
		of := make([]slice, len(first))
		for i := range first {
			of[i] = pages(first[i], end[i])
		}
		suspects, err := a.sift(ctx, s, of, r)
		if err == nil {
			err = a.ids(ctx, suspects, r)
		}
		if err != nil {
			return at, err
		}
	}
	if t := a.table(at.Table); !t.Sifted {
		if err := r.look(ctx, a.db, t, pages(first[0], end[0]), t.Rules...); err != nil {
			return at, err
		}
	}
	switch took := time.Since(began); {
	case took < shortLook:
		n *= 2
	case took > longLook:
		n /= 2
	}
	a.n = min(max(n, few), mostPages)
	at.Page, at.Beside = end[0], end[1:]
	if over && i+1 < len(steps) {
		return begin(steps[i+1], at.After), nil
	}
	if over {
		return Place{After: at.After}, nil
	}
	return at, nil
}

// ends returns the pages before which the slices end that begin with these pages: n pages of the first table, and those
// of the others up to where the rows of the first one's last page are. over says whether that is all.
func (a *auditor) ends(ctx context.Context, s Sift, first []int64, n int64) (end []int64, over bool, err error) {
	sizes := make([]int64, len(first))
	for i, name := range s.Tables {
		if sizes[i], err = pg.Pages(ctx, a.db, name); err != nil {
			return nil, false, err
		}
	}
	var ids []uuid.UUID
	end = []int64{max(first[0], min(first[0]+n, sizes[0]))}
	last := end[0] >= sizes[0] // the others to their ends, too
	if len(first) > 1 && !last {
		lead := a.table(s.Tables[0])
		if err := sqlx.SelectContext(ctx, a.db, &ids,
			`SELECT `+s.ID+` FROM `+lead.from(pages(end[0]-1, end[0]))+` s`); err != nil {
			return nil, false, fmt.Errorf("audit of %s: %w", lead.Name, err)
		}
	}
	over = last
	for i := 1; i < len(first); i++ {
		page := sizes[i]
		if !last {
			t := a.table(s.Tables[i])
			if err := sqlx.GetContext(ctx, a.db, &page, `
				SELECT coalesce((percentile_disc(0.5) WITHIN GROUP (ORDER BY ctid)::text::point)[0]::bigint, 0)
				FROM `+t.Name+` WHERE `+t.Of, pg.UUIDs(ids)); err != nil {
				return nil, false, fmt.Errorf("audit of %s: %w", t.Name, err)
			}
		}
		end = append(end, max(first[i], min(page, first[i]+reach*n)))
		over = over && end[i] >= sizes[i]
	}
	return end, over, nil
}

// sift looks at slices of a sift's tables, all of them pages or all of the same IDs, and returns the IDs that it finds.
func (a *auditor) sift(ctx context.Context, s Sift, of []slice, r *Result) (ids []uuid.UUID, err error) {
	query, counts := s.Query, ""
	for i, name := range s.Tables {
		from := a.table(name).from(of[i])
		query = strings.ReplaceAll(query, "{"+name+"}", from)
		counts += " + (SELECT count(*) FROM " + from + " s)"
	}
	tx, err := a.db.BeginTxx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	var rows int64
	err = tx.GetContext(ctx, &rows, `SELECT 0`+counts, of[0].args...)
	if err == nil && rows > 0 {
		// It is one session's work, and the slices fit into memory. However few rows the planner takes them to have, they
		// are joined by hashing; a slice that is alone may be found in another table, row by row.
		_, err = tx.ExecContext(ctx, fmt.Sprintf(`SET LOCAL enable_nestloop = %t; SET LOCAL enable_mergejoin = off;
			SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off; SET LOCAL work_mem = '32MB'`,
			len(s.Tables) == 1))
	}
	if err == nil && rows > 0 {
		err = tx.SelectContext(ctx, &ids, `SELECT DISTINCT id FROM (`+query+`) AS suspects (id) WHERE id IS NOT NULL`,
			of[0].args...)
	}
	if err != nil {
		return nil, fmt.Errorf("audit of %s: %w", s.Tables[0], err)
	}
	r.Rows += rows
	return ids, nil
}

// ids looks at all rows of some IDs: by the sifts first, so that the rules of what is sifted are left few.
func (a *auditor) ids(ctx context.Context, ids []uuid.UUID, r *Result) error {
	for some := range slices.Chunk(ids, maxIDs) {
		var suspects []uuid.UUID
		for _, s := range a.Sifts {
			of := make([]slice, len(s.Tables))
			for i, name := range s.Tables {
				of[i] = a.table(name).of(some)
			}
			found, err := a.sift(ctx, s, of, r)
			if err != nil {
				return err
			}
			suspects = append(suspects, found...)
		}
		for _, t := range a.Tables {
			of := some
			if t.Sifted {
				of = suspects
			}
			if len(of) == 0 {
				continue
			}
			if err := r.look(ctx, a.db, t, t.of(of), t.Rules...); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow looks at what has changed next, and returns the place after that: the same if nothing has changed.
func (a *auditor) follow(ctx context.Context, after int64, r *Result) (next int64, err error) {
	ids, next, err := a.Changed(ctx, a.db, after)
	if err != nil {
		return after, err
	}
	if pg.Distributed(a.db) { // which a pool knows once it has a connection
		return after, errDistributed
	}
	if err := a.ids(ctx, ids, r); err != nil {
		return after, err
	}
	return next, nil
}

func (r *Result) look(ctx context.Context, db *sqlx.DB, t Table, s slice, rules ...Rule) error {
	rows, found, err := t.look(ctx, db, s, rules...)
	r.Rows += rows
	r.Findings = append(r.Findings, found...)
	return err
}

// Pass audits everything once, for a share of the time, in percent. It tells after each step how far it has come.
func (b Books) Pass(ctx context.Context, db *sqlx.DB, load int, progress func(Place, Result)) (r Result, err error) {
	if r.Next, err = b.Head(ctx, db); err != nil {
		return r, err
	}
	a := auditor{Books: b, db: db}
	for at := begin(b.steps()[0], 0); at.Table != ""; {
		began := time.Now()
		if at, err = a.pass(ctx, at, &r); err != nil {
			return r, err
		}
		progress(at, r)
		if !stage.Wait(ctx, rest(began, load)) {
			return r, ctx.Err()
		}
	}
	return r, nil
}

// Follow audits what has changed after a place in the record of changes.
func (b Books) Follow(ctx context.Context, db *sqlx.DB, load int, after int64) (r Result, err error) {
	a := auditor{Books: b, db: db}
	for {
		begin := time.Now()
		if r.Next, err = a.follow(ctx, after, &r); err != nil || r.Next == after {
			return r, err
		}
		after = r.Next
		if !stage.Wait(ctx, rest(begin, load)) {
			return r, ctx.Err()
		}
	}
}

// rest is how long to rest after work that was begun then, to work for this share of the time, in percent.
func rest(begin time.Time, load int) time.Duration {
	return time.Since(begin) * time.Duration(100-load) / time.Duration(load)
}
