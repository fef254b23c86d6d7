package postgres

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/chain"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// pages is how many pages of a table, of 8 KiB, are read at once.
const pages = 512

// tableScan reads those rows of a table that the chain covers or follows from.
type tableScan struct {
	kind    chain.Kind
	table   string         // the kind's, if it is ""
	from    string         // the table, aliased as t
	covered []chain.Column // by the hash of the row
	more    []chain.Column
	row     func(r *row, out sink) // what follows from a row
}

// row is a row that was read.
type row struct {
	item    chain.Item // of the row, if it is in a link; of a balance or what waits, what is said of it
	columns [][]byte   // the covered ones and the others
}

// sink takes what a look at the database finds.
type sink interface {
	// link says which link the items are of that are added next.
	link(l chain.Link)
	// add adds an item, of the chain or one that must be there because of another row.
	add(i chain.Item)
	// remove takes away the row that an item is about. name says how the row is called beside its ID; it may be nil.
	remove(i chain.Item, name func() string)
	// wrong notes a row that contradicts itself, or those that it follows from.
	wrong(d Difference)
}

// The places of columns in chain.Columns and what follows there.
const (
	entryAccount, entryCurrency, entryNumber, entryOperation, entryTime = 0, 2, 3, 4, 10

	operationID, operationStatus, operationWaits = 0, 11, 17
)

// balanceKey is what tells balances apart; an entry begins with it.
var balanceKey = chain.Columns[chain.Entry][:entryCurrency+1]

// tableScans are the scans of all tables.
var tableScans = []tableScan{
	linkedScan(chain.Account), linkedScan(chain.Hold), linkedScan(chain.Payment),
	{kind: chain.Operation, from: "operations t", covered: chain.Columns[chain.Operation],
		// No hash covers what an operation waits for, which changes. It stands in two places.
		more: []chain.Column{chain.Bool(`status <> 'created' OR reason = coalesce(
			(SELECT what FROM waits w WHERE w.id = t.id AND w.lane = t.lane AND ` + inShard("w.lane") + `), reason)`)},
		row: func(r *row, out sink) {
			out.remove(r.item, nil)
			if string(r.columns[operationStatus]) == "created" {
				id := r.columns[operationID]
				if r.columns[operationWaits][0] == 0 {
					out.wrong(Difference{Table: "operations", ID: uuid.UUID(id).String(), What: "does not wait for what it says"})
				}
				out.add(chain.Item{
					Kind: chain.Wait, ID: uuid.UUID(id), Hash: new(chain.Row).Begin(chain.Wait).Raw(id...).Hash(),
				})
			}
		}},
	{kind: chain.Entry, from: "entries t", covered: chain.Columns[chain.Entry],
		more: []chain.Column{chain.Timestamp("created_at")},
		row: func(r *row, out sink) {
			r.item.ID, r.item.At = uuid.UUID(r.columns[entryOperation]), chain.Time(integer(r.columns[entryTime]))
			out.remove(r.item, func() string {
				return fmt.Sprintf("number %d of %s %s", integer(r.columns[entryNumber]), uuid.UUID(r.columns[entryAccount]),
					r.columns[entryCurrency])
			})
			if integer(r.columns[entryNumber]) == 1 {
				out.add(balanceItem(r.columns))
			}
		}},
	{kind: chain.Balance,
		covered: []chain.Column{chain.UUID("t.account_id"), chain.Small("t.lane"), chain.Text("t.currency")},
		more: []chain.Column{chain.Big("t.entries"),
			chain.Bool(`t.actual = coalesce(e.balance_after, 0) AND t.frozen = coalesce(e.frozen_after, 0)
				AND (t.entries = 0 OR e.balance_after IS NOT NULL)`),
			chain.Bool("t.waiting = w.waiting"),
			chain.Bool(`t.entries = 0 OR t.tenant = coalesce(
				(SELECT tenant FROM accounts a WHERE a.id = t.account_id AND a.lane = t.lane AND ` + inShard("a.lane") + `),
				'default')`)},
		from: `balances t LEFT JOIN LATERAL (
				SELECT balance_after, frozen_after FROM entries
				WHERE account_id = t.account_id AND currency = t.currency AND number = t.entries AND lane = t.lane
					AND ` + inShard("lane") + ` LIMIT 1
			) e ON true CROSS JOIN LATERAL (
				SELECT count(*) AS waiting FROM waits
				WHERE account_id = t.account_id AND currency = t.currency AND lane = t.lane AND what = 'waiting_for_funds'
					AND ` + inShard("lane") + `
			) w`,
		row: func(r *row, out sink) {
			i := balanceItem(r.columns)
			name := func() string {
				return fmt.Sprintf("%s in lane %d", r.columns[entryCurrency], integer(r.columns[1]))
			}
			if integer(r.columns[3]) > 0 {
				out.remove(i, name)
			}
			for n, what := range map[int]string{4: "is not what its last entry says", 5: "does not count what waits for it",
				6: "is not of the tenant of its account"} {
				if r.columns[n][0] == 0 {
					out.wrong(Difference{Table: "balances", ID: i.ID.String() + " " + name(), What: what})
				}
			}
		}},
	{kind: chain.Wait, from: "waits t", covered: []chain.Column{chain.UUID("id")},
		row: func(r *row, out sink) { out.remove(r.item, nil) }},
}

// inShard is the condition that a table's lane is in the shard that is read.
func inShard(lane string) string { return pg.InLanes(lane, "$3") }

// linkedScan scans a table whose rows are in links, and no more.
func linkedScan(kind chain.Kind) tableScan {
	return tableScan{
		kind: kind, from: kind.Table() + " t", covered: chain.Columns[kind],
		row: func(r *row, out sink) { out.remove(r.item, nil) },
	}
}

// balanceItem is about a balance that has entries; columns begin with its key.
func balanceItem(columns [][]byte) chain.Item {
	var r chain.Row
	r.Begin(chain.Balance)
	for _, column := range columns[:len(balanceKey)] {
		r.Raw(column...)
	}
	return chain.Item{Kind: chain.Balance, ID: uuid.UUID(columns[entryAccount]), Hash: r.Hash()}
}

// integer reads a smallint or bigint.
func integer(column []byte) int64 {
	if len(column) == 2 {
		return int64(int16(binary.BigEndian.Uint16(column)))
	}
	return int64(binary.BigEndian.Uint64(column))
}

// read reads the rows of some pages of a shard, from first on, as one value: a row of a result for each, with its
// columns apart, would take several times as long.
func (s tableScan) read(ctx context.Context, tx *sqlx.Tx, shard pg.Lanes, first int64, out sink) error {
	form := chain.SQL(slices.Concat(s.covered, s.more))
	from := ` FROM ` + s.from + ` WHERE t.ctid >= $1::tid AND t.ctid < $2::tid AND ` + inShard("t.lane")
	begin, end := fmt.Sprintf("(%d,0)", first), fmt.Sprintf("(%d,0)", first+pages)
	var (
		n    int
		rows []byte
	)
	if err := tx.QueryRowContext(ctx, `SELECT count(*), string_agg(`+form+`, ''::bytea)`+from, begin, end, shard).
		Scan(&n, &rows); err != nil {
		return fmt.Errorf("read %s: %w", s.kind.Table(), err)
	}
	var canonical chain.Row
	r := row{item: chain.Item{Kind: s.kind}}
	for ; len(rows) > 0; n-- {
		columns, rest, err := chain.Split(r.columns[:0], s.covered, rows)
		if err != nil {
			return fmt.Errorf("read %s: %w", s.kind.Table(), err)
		}
		canonical.Begin(s.kind).Raw(rows[:len(rows)-len(rest)]...)
		r.item.Hash, r.item.ID, r.item.At = canonical.Hash(), uuid.UUID(columns[0]), 0
		if r.columns, rows, err = chain.Split(columns, s.more, rest); err != nil {
			return fmt.Errorf("read %s: %w", s.kind.Table(), err)
		}
		s.row(&r, out)
	}
	if n == 0 {
		return nil
	}
	// string_agg leaves out what is NULL: the form of a row that has no value where each must have one.
	var places []string
	if err := tx.SelectContext(ctx, &places, `SELECT t.ctid`+from+` AND (`+form+`) IS NULL`,
		begin, end, shard); err != nil {
		return fmt.Errorf("read %s: %w", s.kind.Table(), err)
	}
	for _, place := range places {
		out.wrong(Difference{Table: cmp.Or(s.table, s.kind.Table()), ID: "at ctid " + place,
			What: "has no value where each row must have one"})
	}
	return nil
}
