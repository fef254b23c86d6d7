package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// filling puts paid orders into both databases, as a year of the services' work would have left them: each order with
// its history, payment, operation and entries, on accounts that were opened and funded before. The orders go round
// the accounts, so the i-th order's rows follow from i alone. That lets both databases be filled at the same time, in
// chunks.
type filling struct {
	n        int64 // orders
	accounts []filledAccount
	begin    int64 // when the first order was placed, in microseconds
	step     int64 // from one order to the next
}

// filledAccount is one of the accounts. Its rank in its lane says which entries of the lane's system accounts are
// about it.
type filledAccount struct {
	id           uuid.UUID
	lane         int16
	rank, inLane int64
	opened       int64 // in microseconds
}

const (
	// The filled database has at most so many accounts beside those that the load uses. All have about equally many
	// orders.
	mostAccounts = 100_000
	leastStored  = 1
	// chunkOf is the number of orders that one statement stores.
	chunkOf = 100_000
	year    = 365 * 24 * time.Hour
)

func newFilling(n, accounts int, now time.Time) *filling {
	f := &filling{
		n: int64(n), accounts: make([]filledAccount, min(mostAccounts, n/10)+accounts),
		begin: now.Add(-year).UnixMicro(), step: (year - time.Hour).Microseconds() / int64(n),
	}
	inLane := map[int16]int64{}
	for i := range f.accounts {
		a := &f.accounts[i]
		a.opened = f.begin - int64(len(f.accounts)-i)*1000
		a.id = idAt(a.opened)
		a.lane = contract.Lane(a.id)
		inLane[a.lane]++
		a.rank = inLane[a.lane]
	}
	for i := range f.accounts {
		f.accounts[i].inLane = inLane[f.accounts[i].lane]
	}
	return f
}

// idAt returns a UUIDv7 of a time in the past.
func idAt(microseconds int64) uuid.UUID {
	id := uuid.Must(uuid.NewV7())
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(microseconds/1000)<<16)
	copy(id[:6], at[:6])
	return id
}

// last returns the IDs of the last n accounts.
func (f *filling) last(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = f.accounts[len(f.accounts)-n+i].id
	}
	return ids
}

// run fills both databases. After an error they are useless.
func (f *filling) run(ctx context.Context, orders, billing *sqlx.DB) error {
	databases := []*filledDatabase{
		{db: orders, tables: []string{"orders", "order_history"}, chunk: ordersChunk, end: ordersEnd},
		{db: billing, tables: []string{"operations", "entries", "payments"}, small: []string{"accounts", "balances"},
			begin: billingBegin, chunk: billingChunk, end: billingEnd},
	}
	chunks := int((f.n + chunkOf - 1) / chunkOf)
	steps := 0
	for _, d := range databases {
		if err := d.prepare(ctx, f); err != nil {
			return err
		}
		defer d.conn.Close()
		steps += chunks + len(d.indexes) + len(d.tables)
	}
	progress := load.NewProgress(os.Stderr, "filling: steps", steps)
	defer progress.Close()
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range databases {
		group.Go(func() error { return d.fill(ctx, f, func() { progress.Add(1) }) })
	}
	return group.Wait()
}

// filledDatabase is a database that is being filled, on one connection.
type filledDatabase struct {
	db     *sqlx.DB
	tables []string // the large ones: while they are filled, they have neither indexes nor autovacuum
	small  []string // the others
	// begin and end run once; chunk stores the orders from $1 to before $2.
	begin []string
	chunk string
	end   []string

	conn    *sqlx.Conn
	indexes []index
}

// session makes a connection faster and less durable: what a crash could lose is worthless without the rest.
var session = []string{`SET synchronous_commit = off`, `SET work_mem = '64MB'`, `SET maintenance_work_mem = '256MB'`}

// filledAccounts exists while the database is filled; i counts from 0.
const filledAccounts = `
	CREATE UNLOGGED TABLE filled_accounts (
		i bigint PRIMARY KEY, account_id uuid, lane smallint, rank bigint, in_lane bigint, opened timestamptz, funds bigint,
			amount bigint)`

func (d *filledDatabase) prepare(ctx context.Context, f *filling) (err error) {
	if d.conn, err = d.db.Connx(ctx); err != nil {
		return err
	}
	if err := d.exec(ctx, append(session, filledAccounts)...); err != nil {
		return err
	}
	const perStatement = 10_000
	for from := 0; from < len(f.accounts); from += perStatement {
		part := f.accounts[from:min(from+perStatement, len(f.accounts))]
		n := len(part)
		ids, lanes := make(pg.UUIDs, n), make(pg.Int16s, n)
		ranks, inLanes, opened := make(pg.Int64s, n), make(pg.Int64s, n), make(pg.Int64s, n)
		for i, a := range part {
			ids[i], lanes[i] = a.id, a.lane
			ranks[i], inLanes[i] = a.rank, a.inLane
			opened[i] = a.opened
		}
		if _, err := d.conn.ExecContext(ctx, `
			INSERT INTO filled_accounts
			SELECT $1::bigint + n - 1, id, lane, rank, in_lane, timestamptz 'epoch' + opened * interval '1 microsecond', $7, $8
			FROM unnest($2::uuid[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[])
				WITH ORDINALITY AS a (id, lane, rank, in_lane, opened, n)`,
			from, ids, lanes, ranks, inLanes, opened, fundsInMinor, amountInMinor); err != nil {
			return fmt.Errorf("fill: accounts: %w", err)
		}
	}
	if err := d.exec(ctx, `ANALYZE filled_accounts`); err != nil {
		return err
	}
	d.indexes, err = indexesOf(ctx, d.conn, d.tables)
	return err
}

func (d *filledDatabase) fill(ctx context.Context, f *filling, step func()) error {
	if err := d.exec(ctx, d.begin...); err != nil {
		return err
	}
	for _, table := range d.tables {
		if err := d.exec(ctx, `ALTER TABLE `+table+` SET (autovacuum_enabled = off)`); err != nil {
			return err
		}
	}
	for _, index := range d.indexes {
		if err := d.exec(ctx, index.drop); err != nil {
			return err
		}
	}
	for from := int64(0); from < f.n; from += chunkOf {
		to := min(from+chunkOf, f.n)
		if _, err := d.conn.ExecContext(ctx, d.chunk, from, to, f.begin, f.step, len(f.accounts)); err != nil {
			return fmt.Errorf("fill: orders %d to %d: %w", from, to, err)
		}
		step()
	}
	for _, index := range d.indexes {
		if err := d.exec(ctx, index.create...); err != nil {
			return err
		}
		step()
	}
	for _, statement := range d.end {
		if _, err := d.conn.ExecContext(ctx, statement, f.n, len(f.accounts)); err != nil {
			return fmt.Errorf("fill: %w in %s", err, statement)
		}
	}
	for _, table := range d.tables {
		if err := d.exec(ctx, `VACUUM (ANALYZE) `+table, `ALTER TABLE `+table+` RESET (autovacuum_enabled)`); err != nil {
			return err
		}
		step()
	}
	for _, table := range d.small {
		if err := d.exec(ctx, `VACUUM (ANALYZE) `+table); err != nil {
			return err
		}
	}
	return d.exec(ctx, `DROP TABLE filled_accounts`)
}

func (d *filledDatabase) exec(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := d.conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("fill: %w in %s", err, statement)
		}
	}
	return nil
}

// index knows how to drop an index and make it again as it was.
type index struct {
	drop   string
	create []string
}

func indexesOf(ctx context.Context, conn *sqlx.Conn, tables []string) ([]index, error) {
	var rows []struct{ Table, Name, Definition, Constraint string }
	if err := conn.SelectContext(ctx, &rows, `
		SELECT tablename AS "table", indexname AS name, indexdef AS definition,
			coalesce((SELECT CASE contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END FROM pg_constraint
				WHERE conrelid = tablename::regclass AND conname = indexname AND contype IN ('p', 'u')), '') AS "constraint"
		FROM pg_indexes WHERE schemaname = 'public'
			AND tablename = ANY($1) ORDER BY tablename, indexname`, pq.Array(tables)); err != nil {
		return nil, fmt.Errorf("fill: indexes: %w", err)
	}
	indexes := make([]index, len(rows))
	for i, row := range rows {
		indexes[i] = index{drop: `DROP INDEX ` + row.Name, create: []string{row.Definition}}
		if row.Constraint != "" {
			alter := `ALTER TABLE ` + row.Table
			indexes[i].drop = alter + ` DROP CONSTRAINT ` + row.Name
			indexes[i].create = append(indexes[i].create,
				alter+` ADD CONSTRAINT `+row.Name+` `+row.Constraint+` USING INDEX `+row.Name)
		}
	}
	return indexes, nil
}
