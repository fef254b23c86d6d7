// Package audit looks for rows of a running service that contradict each other. What must not be is a table of rules:
// statements that return the IDs of what is wrong.
//
// A statement looks at a slice of one table: at some pages of it, or at the rows of some IDs. What it compares them
// with it finds by keys. So a look is short and has a snapshot of its own, which holds up no vacuum; and as every rule
// holds after each commit, what is under way is never taken for a mistake. A pass goes through all pages of all tables.
// Afterwards it is enough to look at what has changed, as the service itself has it on record; what is changed behind
// the service's back is found by the next pass.
package audit

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
)

// Books are what is audited.
type Books struct {
	Tables []Table
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
	Rules []Rule
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
	shortLook, longLook = 100 * time.Millisecond, 400 * time.Millisecond
	fewestPages         = 8
	mostPages           = 1 << 14
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

func pages(first, n int64) slice {
	return slice{"ctid >= $1::tid AND ctid < $2::tid", []any{fmt.Sprintf("(%d,0)", first), fmt.Sprintf("(%d,0)", first+n)}}
}

// look runs rules on a slice of the table, in one snapshot. It returns how many rows the slice has.
func (t Table) look(ctx context.Context, db *sqlx.DB, s slice, rules ...Rule) (rows int64, found []Finding, err error) {
	tx, err := db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return 0, nil, fmt.Errorf("audit: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	// What a slice is compared with is looked up row by row, however large the planner takes the slice to be.
	if _, err := tx.ExecContext(ctx, `SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off`); err != nil {
		return 0, nil, fmt.Errorf("audit: %w", err)
	}
	from := "(SELECT * FROM " + t.Name + " WHERE " + s.condition + ")"
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

// size is how many pages the table has.
func (t Table) size(ctx context.Context, db sqlx.QueryerContext) (n int64, err error) {
	if err := sqlx.GetContext(ctx, db, &n, `
		SELECT pg_relation_size($1::regclass) / current_setting('block_size')::bigint`, t.Name); err != nil {
		return 0, fmt.Errorf("size of %s: %w", t.Name, err)
	}
	return n, nil
}

// Place is how far an audit has come.
type Place struct {
	Table string `db:"table_name"` // that the pass is at; "" when it has ended
	Page  int64  `db:"page"`       // of the table, to look at next
	After int64  `db:"after"`      // what comes after this place in the record of changes was not looked at yet
}

// Result is what an audit has found.
type Result struct {
	Rows     int64 // that were looked at
	Findings []Finding
	Next     int64 // the place in the record of changes from which on a later audit can go on
}

// auditor audits books step by step.
type auditor struct {
	Books
	db *sqlx.DB
	n  int64 // pages of the next look
}

// pass looks at the pages that are next in a pass, and returns the place after them.
func (a *auditor) pass(ctx context.Context, at Place, r *Result) (Place, error) {
	i := slices.IndexFunc(a.Tables, func(t Table) bool { return t.Name == at.Table })
	if i < 0 { // of another version
		at.Table, at.Page = a.Tables[0].Name, 0
		return at, nil
	}
	begin, t := time.Now(), a.Tables[i]
	size, err := t.size(ctx, a.db)
	if err != nil {
		return at, err
	}
	n := max(a.n, fewestPages)
	if err := r.look(ctx, a.db, t, pages(at.Page, n), t.Rules...); err != nil {
		return at, err
	}
	if at.Page += n; at.Page >= size {
		at.Page, at.Table = 0, ""
		if i+1 < len(a.Tables) {
			at.Table = a.Tables[i+1].Name
		}
	}
	switch took := time.Since(begin); {
	case took < shortLook:
		n *= 2
	case took > longLook:
		n /= 2
	}
	a.n = min(n, mostPages)
	return at, nil
}

// follow looks at what has changed next, and returns the place after that: the same if nothing has changed.
func (a *auditor) follow(ctx context.Context, after int64, r *Result) (next int64, err error) {
	ids, next, err := a.Changed(ctx, a.db, after)
	if err != nil {
		return after, err
	}
	for some := range slices.Chunk(ids, maxIDs) {
		for _, t := range a.Tables {
			if err := r.look(ctx, a.db, t, t.of(some), t.Rules...); err != nil {
				return after, err
			}
		}
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
	for at := (Place{Table: b.Tables[0].Name}); at.Table != ""; {
		begin := time.Now()
		if at, err = a.pass(ctx, at, &r); err != nil {
			return r, err
		}
		progress(at, r)
		if !stage.Wait(ctx, rest(begin, load)) {
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
