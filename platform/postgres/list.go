package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"
)

const (
	// MaxLooked is how many rows of each of its walks a page of a List looks at where it filters them.
	MaxLooked = 10_000
	// NewestFirst is the position before the newest row of a List.
	NewestFirst int64 = math.MaxInt64
	// clockError is how far the times of rows may be from those of the rows beside them: the clocks of the machines that
	// have set them differ, and so does what a request waits for before its row is stored.
	clockError = time.Minute
)

// List is a list of a table's rows, newest first. Each row has a position, a column named seq, which grows with time.
// A list is read page by page, each from below the position where the one before ended, so rows that come meanwhile
// neither shift the others nor come twice.
type List struct {
	Columns string // SQL: what is read of a row; seq is among it
	Table   string // its alias is t
	Join    string // SQL: what is joined to its rows
	Walks   []Walk // the ways to its rows; no row is on two of them
	// Prefixes choose rows by how texts of theirs begin. Where few rows are found by the index of the first prefix, the
	// list has no other walk.
	Prefixes []Prefix
	Filter   []Condition // for these, rows are looked at
	Guard    []Condition // these almost all rows meet, so that rows need not be counted for them

	below, from int64 // the bounds of Within; 0 for none
}

// Walk is the part of an index that has the rows with certain values, in the order of their positions.
type Walk struct {
	Keys    []Key  // the columns with which the index begins
	Where   string // SQL: what the index is restricted to, as it is there; "" if to nothing
	Negated bool   // the index ends with -seq, not seq
}

// Key is a column of an index and the value that it has in the rows of a walk.
type Key struct {
	Column string
	Value  any
	// Pattern says that the column is a text, which the index has by text_pattern_ops.
	Pattern bool
}

// Prefix is what a text of the rows begins with.
type Prefix struct {
	Column, Text string
	// Index has the column by text_pattern_ops behind the Keys. It is nil if none is of use.
	Index *Walk
}

// Condition is a condition on rows: SQL with %[1]s in the place of the value. It holds where the value is nil. So lists
// that differ in their filters alone have the same few statements, of which a session keeps a bounded number.
type Condition struct {
	SQL   string
	Value any
}

// Given returns the value of a condition, nil for that of a zero value.
func Given[V comparable](value V) any {
	var zero V
	if value == zero {
		return nil
	}
	return value
}

// Begins restricts a list to rows whose column begins with a prefix, unless that is "" or was taken before. index, if
// there is one, is where the column is looked up; it counts for the first prefix.
func (l *List) Begins(column string, prefix *string, index ...Walk) {
	if *prefix == "" || len(index) > 0 && len(l.Prefixes) > 0 {
		return
	}
	p := Prefix{Column: column, Text: *prefix}
	if len(index) > 0 {
		p.Index = &index[0]
	}
	l.Prefixes = append(l.Prefixes, p)
	*prefix = ""
}

// arguments are those of a statement.
type arguments []any

// add adds an argument and returns its name in the statement.
func (a *arguments) add(value any) string {
	*a = append(*a, value)
	return "$" + strconv.Itoa(len(*a))
}

func (a *arguments) conditions(of ...[]Condition) (where []string) {
	for _, c := range slices.Concat(of...) {
		value := a.add(c.Value)
		where = append(where, `(`+fmt.Sprintf(c.SQL, value)+` OR `+value+` IS NULL)`)
	}
	return where
}

// allOf is the conjunction of conditions.
func allOf(conditions ...[]string) string {
	return strings.Join(append(slices.Concat(conditions...), `true`), ` AND `)
}

// where returns the conditions of a walk. The values are compared by two inequalities instead of one equality: so the
// planner does not see that the order of the positions alone would do, and takes the one index that has the rows in
// their whole order, instead of walking through everybody's rows for a few.
func (w Walk) where(args *arguments) (where []string) {
	for _, k := range w.Keys {
		form := `t.%[1]s BETWEEN %[2]s AND %[2]s`
		if k.Pattern {
			form = `t.%[1]s ~>=~ %[2]s AND t.%[1]s ~<=~ %[2]s`
		}
		where = append(where, fmt.Sprintf(form, k.Column, args.add(k.Value)))
	}
	if w.Where != "" {
		where = append(where, w.Where)
	}
	return where
}

// order returns the order of the walk's index, in which its newest row is the first.
func (w Walk) order() string {
	plain, pattern, seq := ` DESC`, ` USING ~>~`, `t.seq DESC`
	if w.Negated {
		plain, pattern, seq = ``, ` USING ~<~`, `-t.seq`
	}
	var order []string
	for _, k := range w.Keys {
		direction := plain
		if k.Pattern {
			direction = pattern
		}
		order = append(order, `t.`+k.Column+direction)
	}
	return strings.Join(append(order, seq), `, `)
}

// between returns the conditions of the positions below one and from another on.
func (w Walk) between(args *arguments, below, from int64) []string {
	if w.Negated {
		return []string{`-t.seq > -` + args.add(below) + `::bigint`, `-t.seq <= -` + args.add(from) + `::bigint`}
	}
	return []string{`t.seq < ` + args.add(below), `t.seq >= ` + args.add(from)}
}

// where returns the condition that a text begins with the prefix. Such texts lie between two others: a pattern that is
// a parameter of a statement would be of no use to an index.
func (p Prefix) where(args *arguments) []string {
	where := []string{`t.` + p.Column + ` ~>=~ ` + args.add(p.Text)}
	if end := after(p.Text); end != "" {
		where = append(where, `t.`+p.Column+` ~<~ `+args.add(end))
	}
	return where
}

// order returns the order of the index in which the texts are.
func (p Prefix) order() string {
	var order []string
	for _, k := range p.Index.Keys {
		order = append(order, `t.`+k.Column)
	}
	return strings.Join(append(order, `t.`+p.Column+` USING ~<~`), `, `)
}

// after returns the first text behind all that begin with a prefix, in the order of UTF-8; "" if there is none.
func after(prefix string) string {
	for prefix != "" {
		last, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		if last++; last == 0xD800 { // halves of pairs are no characters
			last = 0xE000
		}
		if last <= utf8.MaxRune {
			return prefix + string(last)
		}
	}
	return ""
}

// Page reads at most limit rows below a position, newest first, and returns the position where the list goes on, or 0
// at its end. Where the list filters rows, a page looks at MaxLooked of each walk at most: it may have fewer rows than
// limit then, or none, without being the last. position is that of a row.
func Page[R any](ctx context.Context, db *sqlx.DB, l List, below int64, limit int, position func(R) int64) (
	page []R, next int64, err error) {
	ctx, cancel := Detached(ctx)
	defer cancel()
	if l.below > 0 {
		below = min(below, l.below)
	}
	few, err := l.few(ctx, db, below)
	if err != nil {
		return nil, 0, err
	}
	filtered := slices.ContainsFunc(l.Filter, func(c Condition) bool { return c.Value != nil })
	if !few && (filtered || len(l.Prefixes) > 0) {
		if next, err = l.end(ctx, db, below); err != nil {
			return nil, 0, err
		}
	}
	var args arguments
	query := l.query(&args, few, below, max(next, l.from), limit+1)
	if err := db.SelectContext(ctx, &page, query, args...); err != nil {
		return nil, 0, err
	}
	if len(page) > limit {
		page = page[:limit]
		next = position(page[limit-1])
	}
	return page, next, nil
}

// query is that of a page. few says that the rows are found by their prefix.
func (l List) query(args *arguments, few bool, below, from int64, limit int) string {
	if few {
		first := l.Prefixes[0]
		return `SELECT ` + l.Columns + ` FROM (
				SELECT * FROM ` + l.Table + ` t WHERE ` +
			allOf(first.Index.where(args), l.prefixes(args), Walk{}.between(args, below, from)) + `
				ORDER BY ` + first.order() + ` OFFSET 0
			) t ` + l.Join + ` WHERE ` + allOf(args.conditions(l.Filter, l.Guard)) + `
			ORDER BY t.seq DESC LIMIT ` + args.add(limit)
	}
	parts := make([]string, len(l.Walks))
	for i, w := range l.Walks {
		parts[i] = `SELECT ` + l.Columns + ` FROM ` + l.Table + ` t ` + l.Join + ` WHERE ` +
			allOf(w.where(args), w.between(args, below, from), l.prefixes(args), args.conditions(l.Filter, l.Guard)) + `
			ORDER BY ` + w.order() + ` LIMIT ` + args.add(limit)
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return `SELECT * FROM ((` + strings.Join(parts, `) UNION ALL (`) + `)) u ORDER BY seq DESC LIMIT ` + args.add(limit)
}

// prefixes are the conditions of all prefixes.
func (l List) prefixes(args *arguments) (where []string) {
	for _, p := range l.Prefixes {
		where = append(where, p.where(args)...)
	}
	return where
}

// few reports whether so few rows begin with the first prefix that all of them can be looked at.
func (l List) few(ctx context.Context, db *sqlx.DB, below int64) (few bool, err error) {
	if len(l.Prefixes) == 0 || l.Prefixes[0].Index == nil {
		return false, nil
	}
	var args arguments
	first := l.Prefixes[0]
	where := allOf(first.Index.where(&args), first.where(&args), Walk{}.between(&args, below, l.from))
	err = db.GetContext(ctx, &few, `SELECT count(*) <= `+strconv.Itoa(MaxLooked)+` FROM (
		SELECT 1 FROM `+l.Table+` t WHERE `+where+` ORDER BY `+first.order()+` LIMIT `+strconv.Itoa(MaxLooked+1)+`
	) t`, args...)
	return few, err
}

// end returns the position of the last row at which a page looks; 0 where it looks at all that are left.
func (l List) end(ctx context.Context, db *sqlx.DB, below int64) (end int64, err error) {
	var args arguments
	ends := make([]string, len(l.Walks))
	for i, w := range l.Walks {
		ends[i] = `(SELECT t.seq FROM ` + l.Table + ` t WHERE ` + allOf(w.where(&args), w.between(&args, below, l.from)) + `
			ORDER BY ` + w.order() + ` OFFSET ` + strconv.Itoa(MaxLooked-1) + ` LIMIT 1)`
	}
	err = db.GetContext(ctx, &end, `SELECT coalesce(greatest(`+strings.Join(ends, `, `)+`), 0)`, args...)
	return end, err
}

// Within restricts a list to the rows whose column is a time at or after from and before to, as far as these are not
// nil. Times run with the positions, up to clockError: so a time is found among the positions by bisection, and every
// index serves for it. all is a walk by seq that has all rows of the list.
func (l *List) Within(ctx context.Context, db *sqlx.DB, all Walk, column string, from, to *time.Time) (err error) {
	ctx, cancel := Detached(ctx)
	defer cancel()
	early, late := Condition{SQL: `t.` + column + ` >= %[1]s`}, Condition{SQL: `t.` + column + ` < %[1]s`}
	if from != nil {
		early.Value = *from
		if l.from, err = l.before(ctx, db, all, column, from.Add(-clockError)); err != nil {
			return err
		}
	}
	if to != nil {
		late.Value = *to
		if l.below, err = l.before(ctx, db, all, column, to.Add(clockError)); err != nil {
			return err
		}
		l.below++
	}
	l.Filter = append(l.Filter, early, late)
	return nil
}

// before bisects the positions for a time. It returns the position of a row that is before the time and whose
// successor is not; 0 if the first row is not.
func (l List) before(ctx context.Context, db *sqlx.DB, all Walk, column string, at time.Time) (
	position int64, err error) {
	var args arguments
	rows := ` FROM ` + l.Table + ` t WHERE ` + allOf(all.where(&args))
	// By the walk's index, as max(seq) may be looked up among everybody's rows.
	if err = db.GetContext(ctx, &position, `SELECT t.seq`+rows+` ORDER BY `+all.order()+` LIMIT 1`,
		args...); errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	oldestFirst := strings.NewReplacer(` DESC`, ``, `~>~`, `~<~`).Replace(all.order())
	middle := `SELECT t.seq, t.` + column + ` < ` + args.add(at) + ` AS before` + rows +
		` AND t.seq >= ` + args.add(int64(0)) + ` ORDER BY ` + oldestFirst + ` LIMIT 1`
	// The row at low is before the time, the first one from high on is not. Statement by statement, as Citus plans no
	// recursive one.
	low, high := int64(0), position+1
	for high-low > 1 {
		half := low + (high-low)/2
		var row struct {
			Seq    int64
			Before bool
		}
		args[len(args)-1] = half
		switch err := db.GetContext(ctx, &row, middle, args...); {
		case errors.Is(err, sql.ErrNoRows):
			high = half
		case err != nil:
			return 0, err
		case row.Before:
			low = row.Seq
		default:
			high = half
		}
	}
	return low, nil
}
