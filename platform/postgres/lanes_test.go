package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"reflect"
	"slices"
	"testing"

	"github.com/jmoiron/sqlx"
)

// recorder is a session whose statements return each of their lanes as a row, and change one row for each.
type recorder struct {
	session
	runs *[]any // the lanes of each run
}

func (r recorder) PrepareContext(context.Context, string) (driver.Stmt, error) {
	return recorded{nil, r}, nil
}
func (recorder) CheckNamedValue(*driver.NamedValue) error { return nil }
func (recorder) ResetSession(context.Context) error       { return nil }
func (recorder) IsValid() bool                            { return true }
func (recorder) Close() error                             { return nil }

type recorded struct {
	statement
	recorder
}

func (r recorded) Close() error { return nil }

func (r recorded) lanes(args []driver.NamedValue) (lanes []int16) {
	*r.runs = append(*r.runs, args[0].Value)
	if b, ok := args[0].Value.([]byte); ok {
		for b = b[20:]; len(b) > 0; b = b[6:] { // behind the header: a length and a number each
			lanes = append(lanes, int16(b[4])<<8|int16(b[5]))
		}
	}
	return lanes
}

func (r recorded) ExecContext(_ context.Context, args []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(len(r.lanes(args))), nil
}

func (r recorded) QueryContext(_ context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return &laneRows{r.lanes(args)}, nil
}

type laneRows struct{ lanes []int16 }

func (*laneRows) Columns() []string { return []string{"lane"} }
func (*laneRows) Close() error      { return nil }

func (r *laneRows) Next(row []driver.Value) error {
	if len(r.lanes) == 0 {
		return io.EOF
	}
	row[0], r.lanes = int64(r.lanes[0]), r.lanes[1:]
	return nil
}

// shardConnector makes connections of a server whose lanes are in these shards.
type shardConnector struct {
	recorder
	shards *laneShards
}

func (c shardConnector) Connect(context.Context) (driver.Conn, error) {
	return &preparingConn{session: c.recorder, silent: func() bool { return true },
		statements: map[string]statement{}, shards: c.shards}, nil
}

func (shardConnector) Driver() driver.Driver { return nil }

func TestAStatementIsRunOncePerShard(t *testing.T) {
	shards := new(laneShards)
	for lane := range shards {
		shards[lane] = 100 + int64(lane%3)
	}
	shards[7] = 99
	for _, c := range []struct {
		name         string
		shards       *laneShards
		lanes, found []int16
		runs         int
	}{
		{"PostgreSQL", nil, []int16{5, 3, 4}, nil, 1},
		{"one shard", shards, []int16{6, 3, 6}, []int16{3, 6}, 1},
		{"several", shards, []int16{8, 7, 1, 3, 4}, []int16{7, 3, 1, 4, 8}, 4},
		{"none", shards, nil, []int16{0}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var runs []any
			db := sqlx.NewDb(sql.OpenDB(shardConnector{recorder{runs: &runs}, c.shards}), "postgres")
			defer db.Close()
			var found []int16
			if err := db.Select(&found, `SELECT $1`, Lanes(c.lanes)); err != nil || !reflect.DeepEqual(found, c.found) {
				t.Errorf("found %v, %v; want %v", found, err, c.found)
			}
			result, err := db.Exec(`UPDATE $1`, Lanes(c.lanes))
			if err != nil {
				t.Fatal(err)
			}
			if n, err := result.RowsAffected(); n != int64(len(c.found)) || err != nil {
				t.Errorf("changed %d, %v", n, err)
			}
			if len(runs) != 2*c.runs {
				t.Errorf("%d runs of two statements, want %d each", len(runs), c.runs)
			}
			if c.shards == nil && slices.ContainsFunc(runs, func(lanes any) bool { return lanes != nil }) {
				t.Errorf("PostgreSQL got lanes: %v", runs)
			}
		})
	}
}

func TestShardsBeginWithThatOfALane(t *testing.T) {
	p := newPreparing(shardConnector{})
	db := sqlx.NewDb(sql.OpenDB(p), "postgres")
	defer db.Close()
	if all := Shards(db, 5); !reflect.DeepEqual(all, []Lanes{AllLanes()}) {
		t.Errorf("on PostgreSQL: %v", all)
	}
	shards := new(laneShards)
	for lane := range shards {
		shards[lane] = int64(lane / 16)
	}
	p.shards.Store(shards)
	all := Shards(db, 40)
	if len(all) != 4 || all[0][0] != 32 || all[1][0] != 48 || all[2][0] != 0 || !slices.Contains(all[0], 40) {
		t.Errorf("shards from that of lane 40 on: %v", all)
	}
}
