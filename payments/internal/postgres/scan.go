package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/chain"
)

// pages is how many pages of a table, of 8 KiB, are read at once.
const pages = 512

// tableScan reads the rows of a table, as far as they have to do with the chain.
type tableScan struct {
	kind    chain.Kind
	from    string                           // the table, aliased as t
	columns string                           // SQL
	row     func(columns [][]byte, out sink) // what follows from a row
}

// sink takes what a look at the database finds.
type sink interface {
	// link says which link the items are of that are added next.
	link(l chain.Link)
	// add adds an item, of the chain or one that must be there because of another row. name is what its row is called
	// beside the ID, if it is known.
	add(i chain.Item, name string)
	// remove takes away the row that an item is about.
	remove(i chain.Item, name string)
	// wrong notes a row that contradicts itself, or those that it follows from.
	wrong(d Difference)
}

// The places of columns in chain.Columns.
const (
	entryAccount, entryCurrency, entryNumber, entryOperation, entryTime = 0, 2, 3, 4, 10

	operationStatus = 11
)

// tableScans are the scans of all tables.
var tableScans = []tableScan{
	linkedScan(chain.Account), linkedScan(chain.Hold), linkedScan(chain.Payment),
	{kind: chain.Operation, from: "operations t", columns: chain.Columns[chain.Operation],
		row: func(columns [][]byte, out sink) {
			removeRow(chain.Operation, columns, out)
			if string(columns[operationStatus]) == "created" {
				out.add(waitItem(columns[0]), "")
			}
		}},
	{kind: chain.Entry, from: "entries t", columns: chain.Columns[chain.Entry] + `, created_at`,
		row: func(columns [][]byte, out sink) {
			i := item(chain.Entry, columns[:entryTime])
			i.ID, i.At = uuid.UUID(columns[entryOperation]), chain.Time(integer(columns[entryTime]))
			number := integer(columns[entryNumber])
			out.remove(i, entryName(columns))
			if number == 1 {
				out.add(balanceItem(columns[:3]), "")
			}
		}},
	{kind: chain.Balance, columns: `t.account_id, t.lane, t.currency, t.entries,
		t.actual = coalesce(e.balance_after, 0) AND t.frozen = coalesce(e.frozen_after, 0)
			AND (t.entries = 0 OR e.balance_after IS NOT NULL), t.waiting = w.waiting`,
		from: `balances t LEFT JOIN LATERAL (
				SELECT balance_after, frozen_after FROM entries
				WHERE account_id = t.account_id AND currency = t.currency AND number = t.entries AND lane = t.lane LIMIT 1
			) e ON true CROSS JOIN LATERAL (
				SELECT count(*) AS waiting FROM waits
				WHERE account_id = t.account_id AND currency = t.currency AND lane = t.lane AND what = 'waiting_for_funds'
			) w`,
		row: func(columns [][]byte, out sink) {
			name := string(columns[2]) + " in lane " + strconv.FormatInt(integer(columns[1]), 10)
			i := balanceItem(columns[:3])
			if integer(columns[3]) > 0 {
				out.remove(i, name)
			}
			for n, what := range map[int]string{4: "is not what its last entry says", 5: "does not count what waits for it"} {
				if columns[n][0] == 0 {
					out.wrong(Difference{Table: "balances", ID: i.ID.String() + " " + name, What: what})
				}
			}
		}},
	{kind: chain.Wait, from: "waits t", columns: "id",
		row: func(columns [][]byte, out sink) { out.remove(waitItem(columns[0]), "") }},
}

// linkedScan scans a table whose rows are in links, and no more.
func linkedScan(kind chain.Kind) tableScan {
	return tableScan{
		kind: kind, from: kind.Table() + " t", columns: chain.Columns[kind],
		row: func(columns [][]byte, out sink) { removeRow(kind, columns, out) },
	}
}

// item is the item of a row whose first column is the ID.
func item(kind chain.Kind, columns [][]byte) chain.Item {
	var row chain.Row
	row.Begin(kind)
	for _, column := range columns {
		row.Bytes(column)
	}
	return chain.Item{Kind: kind, ID: uuid.UUID(columns[0]), Hash: row.Hash()}
}

func removeRow(kind chain.Kind, columns [][]byte, out sink) { out.remove(item(kind, columns), "") }

// balanceItem is about a balance that has entries; columns are the account, the lane and the currency.
func balanceItem(columns [][]byte) chain.Item { return item(chain.Balance, columns) }

// waitItem is about an operation that waits.
func waitItem(id []byte) chain.Item { return item(chain.Wait, [][]byte{id}) }

func entryName(columns [][]byte) string {
	return fmt.Sprintf("number %d of %s %s", integer(columns[entryNumber]), uuid.UUID(columns[entryAccount]),
		columns[entryCurrency])
}

// integer reads a smallint or bigint.
func integer(column []byte) int64 {
	if len(column) == 2 {
		return int64(int16(binary.BigEndian.Uint16(column)))
	}
	return int64(binary.BigEndian.Uint64(column))
}

// size is how many pages the table has.
func (s tableScan) size(ctx context.Context, tx *sqlx.Tx) (n int, err error) {
	err = tx.GetContext(ctx, &n, `
		SELECT pg_relation_size($1::regclass) / current_setting('block_size')::bigint`, s.kind.Table())
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", s.kind.Table(), err)
	}
	return n, nil
}

// read reads the rows of some pages, from first on, as one value: a row of a result for each would take several times as
// long.
func (s tableScan) read(ctx context.Context, tx *sqlx.Tx, first int, out sink) error {
	var rows []byte
	err := tx.QueryRowContext(ctx, `
		SELECT string_agg(record_send(ROW(`+s.columns+`)), ''::bytea) FROM `+s.from+`
		WHERE t.ctid >= $1::tid AND t.ctid < $2::tid`,
		fmt.Sprintf("(%d,0)", first), fmt.Sprintf("(%d,0)", first+pages)).Scan(&rows)
	if err != nil {
		return fmt.Errorf("read %s: %w", s.kind.Table(), err)
	}
	var columns [][]byte
	for len(rows) > 0 {
		if columns, rows, err = record(columns[:0], rows); err != nil {
			return fmt.Errorf("read %s: %w", s.kind.Table(), err)
		}
		s.row(columns, out)
	}
	return nil
}

var errRecord = errors.New("a row is not what record_send writes")

// record reads what record_send of PostgreSQL's rowtypes.c has written: the number of columns, and of each its type, its
// length, which is -1 for NULL, and its value. It appends the values to columns and returns the rest.
func record(columns [][]byte, rows []byte) (_ [][]byte, rest []byte, err error) {
	if len(rows) < 4 {
		return nil, nil, errRecord
	}
	n := int(binary.BigEndian.Uint32(rows))
	rows = rows[4:]
	for range n {
		if len(rows) < 8 {
			return nil, nil, errRecord
		}
		size := int(int32(binary.BigEndian.Uint32(rows[4:])))
		rows = rows[8:]
		if size < 0 {
			columns = append(columns, nil)
			continue
		}
		if len(rows) < size {
			return nil, nil, errRecord
		}
		columns, rows = append(columns, rows[:size:size]), rows[size:]
	}
	return columns, rows, nil
}
