package postgres

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/contract"
)

// Lanes is the parameter by which a statement says in which lanes its rows are; see InLanes. On PostgreSQL it is NULL.
// Where Citus distributes the tables by lane, it is the lanes of one shard, and the statement is run once for each
// shard that has some of the lanes: Citus can plan any statement whose rows are in one shard, and few others. The rows
// come shard by shard, always in the same order of the shards, and the numbers of changed rows are summed. So an ORDER
// BY, a LIMIT or an aggregate is that of a shard, and outside of a transaction each shard's part is one of its own.
// Lanes tell where the rows are and choose none: the statement has other conditions for that.
type Lanes []int16

// Value implements driver.Valuer, for connections that do not prepare their statements.
func (Lanes) Value() (driver.Value, error) { return nil, nil }

// InLanes is the SQL condition that a column, which is the lane of a table, is among the Lanes of a parameter. Each
// table of a statement needs it. No index of PostgreSQL is chosen for it.
func InLanes(column, parameter string) string {
	return `(` + column + ` = ANY(` + parameter + `::smallint[]) OR ` + parameter + `::smallint[] IS NULL)`
}

// AllLanes are all lanes.
func AllLanes() Lanes {
	lanes := make(Lanes, contract.Lanes)
	for i := range lanes {
		lanes[i] = int16(i)
	}
	return lanes
}

// Shards returns the lanes of each shard, from the shard of a lane on; on PostgreSQL, all lanes as one. Work that takes
// whatever lanes it finds does so shard by shard: a transaction in one shard is committed by one node.
func Shards(db *sqlx.DB, first int16) []Lanes {
	d, ok := db.Driver().(laneDriver)
	if !ok {
		return []Lanes{AllLanes()}
	}
	shards := d.shards.Load()
	all := shards.split(AllLanes())
	at := slices.IndexFunc(all, func(lanes Lanes) bool { return slices.Contains(lanes, first) })
	return slices.Concat(all[at:], all[:at])
}

// Distributed tells whether the tables are distributed by lane. A transaction has a snapshot on each node then, of
// moments that differ.
func Distributed(db *sqlx.DB) bool {
	d, ok := db.Driver().(laneDriver)
	return ok && d.shards.Load() != nil
}

// laneDriver is the driver of a pool; it carries what the pool knows of its server.
type laneDriver struct {
	driver.Driver
	shards *atomic.Pointer[laneShards]
}

// laneShards has the shard of each lane.
type laneShards [contract.Lanes]int64

// findShards asks the server where the lanes are; nil where nothing is distributed by lane.
func findShards(ctx context.Context, s session) (*laneShards, error) {
	shards := new(laneShards)
	n := 0
	err := each(ctx, s, `
		SELECT lane, get_shard_id_for_distribution_column(t.logicalrelid, lane::smallint) FROM generate_series(0, 63) AS lane,
			(SELECT logicalrelid FROM pg_dist_partition
			WHERE partmethod = 'h' AND column_to_column_name(logicalrelid, partkey) = 'lane' ORDER BY 1 LIMIT 1) t`,
		func(row []driver.Value) {
			n++
			shards[row[0].(int64)] = row[1].(int64)
		})
	if err != nil || n == 0 {
		return nil, err
	}
	return shards, nil
}

// isCitus tells whether the server's planner is that of Citus.
func isCitus(ctx context.Context, s session) (is bool, err error) {
	err = each(ctx, s, `SELECT FROM pg_extension WHERE extname = 'citus'`, func([]driver.Value) { is = true })
	return is, err
}

// each calls do with each row of a query.
func each(ctx context.Context, s session, query string, do func(row []driver.Value)) error {
	rows, err := s.QueryContext(ctx, query, nil)
	if err != nil {
		return err
	}
	defer rows.Close()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		do(row)
	}
}

// lanesIn returns the place of the Lanes among arguments, or -1.
func lanesIn(args []driver.NamedValue) int {
	return slices.IndexFunc(args, func(arg driver.NamedValue) bool { _, ok := arg.Value.(Lanes); return ok })
}

// byShard returns the arguments of a statement once for each shard; at is the place of the Lanes.
func (shards *laneShards) byShard(args []driver.NamedValue, at int) (all [][]driver.NamedValue, err error) {
	lanes := args[at].Value.(Lanes)
	for _, lanes := range shards.split(lanes) {
		args := slices.Clone(args)
		args[at].Value = nil
		if shards != nil {
			if args[at].Value, err = Int16s(lanes).BinaryValue(); err != nil {
				return nil, fmt.Errorf("postgres: %w", err)
			}
		}
		all = append(all, args)
	}
	return all, nil
}

// split returns the lanes of each shard that has any, in the order of the shards. Without any lane it returns one part:
// a statement about nothing is planned and run, too.
func (shards *laneShards) split(lanes Lanes) (parts []Lanes) {
	if shards == nil {
		return []Lanes{lanes}
	}
	if len(lanes) == 0 {
		return []Lanes{{0}}
	}
	sorted := slices.Clone(lanes)
	slices.SortFunc(sorted, func(a, b int16) int {
		return cmp.Or(cmp.Compare(shards[a], shards[b]), cmp.Compare(a, b))
	})
	for i, lane := range slices.Compact(sorted) {
		if i == 0 || shards[lane] != shards[parts[len(parts)-1][0]] {
			parts = append(parts, nil)
		}
		last := &parts[len(parts)-1]
		*last = append(*last, lane)
	}
	return parts
}

// manyRows are the rows of a statement that is run several times. One is run when the rows of the one before are read.
type manyRows struct {
	driver.Rows
	next func() (driver.Rows, error)
	left int // times
}

func (r *manyRows) Next(row []driver.Value) error {
	for {
		err := r.Rows.Next(row)
		if r.left == 0 || !errors.Is(err, io.EOF) {
			return err
		}
		r.left--
		if err := r.Rows.Close(); err != nil {
			return err
		}
		rows, err := r.next()
		if err != nil {
			return err
		}
		r.Rows = rows
	}
}

// manyResults are the results of a statement that is run several times.
type manyResults int64

func (manyResults) LastInsertId() (int64, error) {
	return 0, errors.New("postgres: there are no IDs of inserted rows")
}

func (n manyResults) RowsAffected() (int64, error) { return int64(n), nil }
