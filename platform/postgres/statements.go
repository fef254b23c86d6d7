package postgres

import (
	"context"
	"database/sql/driver"
	"fmt"
	"sync/atomic"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// maxStatements bounds how many statements one session keeps prepared. The services have some dozens; beyond the bound,
// which only statements composed without end would reach, they are sent unprepared.
const maxStatements = 256

// preparing makes connections that prepare each parameterised statement when it is first used, and keep it. The
// server parses it once, and plans it no more after a few executions. That saves half of the server's time for a
// transaction of some dozens of rows.
type preparing struct {
	driver.Connector
	plain  *atomic.Bool // the server is not Citus
	shards *atomic.Pointer[laneShards]
}

func newPreparing(c driver.Connector) preparing {
	return preparing{c, new(atomic.Bool), new(atomic.Pointer[laneShards])}
}

func (p preparing) Driver() driver.Driver { return laneDriver{p.Connector.Driver(), p.shards} }

func (p preparing) Connect(ctx context.Context) (driver.Conn, error) {
	silent := func() bool { return true }
	conn, err := p.Connector.Connect(context.WithValue(ctx, silentKey{}, &silent))
	if err != nil {
		return nil, err
	}
	session, ok := conn.(session)
	if !ok {
		return nil, fmt.Errorf("postgres: %T is no connection of lib/pq", conn)
	}
	c := &preparingConn{session: session, silent: silent, statements: map[string]statement{}}
	if err := p.learn(ctx, c); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// learn finds out what the server is. Citus plans a statement with its parameters' values or not at all.
func (p preparing) learn(ctx context.Context, c *preparingConn) error {
	if p.plain.Load() {
		return nil
	}
	citus, err := isCitus(ctx, c.session)
	if err != nil {
		return err
	}
	if !citus {
		p.plain.Store(true)
		return nil
	}
	if _, err := c.session.ExecContext(ctx, `SET plan_cache_mode = auto`, nil); err != nil {
		return err
	}
	if c.shards, err = findShards(ctx, c.session); err == nil {
		p.shards.Store(c.shards)
	}
	return err
}

// session is what a connection of lib/pq can do.
type session interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type preparingConn struct {
	session
	silent     func() bool
	statements map[string]statement // by their text
	shards     *laneShards          // nil on PostgreSQL
}

// CheckNamedValue implements driver.NamedValueChecker.
func (c *preparingConn) CheckNamedValue(v *driver.NamedValue) error {
	if _, ok := v.Value.(Lanes); ok {
		return nil // see QueryContext and ExecContext
	}
	return c.session.CheckNamedValue(v)
}

// ResetSession is called before the pool hands the connection out again. It refuses a connection that the server has
// ended meanwhile: a statement sent on it would have an unknown outcome, although nothing was done.
func (c *preparingConn) ResetSession(ctx context.Context) error {
	if !c.silent() {
		return driver.ErrBadConn
	}
	return c.session.ResetSession(ctx)
}

func (c *preparingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	at := lanesIn(args)
	if at < 0 {
		return c.query(ctx, query, args)
	}
	all, err := c.shards.byShard(args, at)
	if err != nil {
		return nil, err
	}
	rows, err := c.query(ctx, query, all[0])
	if err != nil || len(all) == 1 {
		return rows, err
	}
	next := func() (driver.Rows, error) {
		all = all[1:]
		return c.query(ctx, query, all[0])
	}
	return &manyRows{Rows: rows, next: next, left: len(all) - 1}, nil
}

func (c *preparingConn) query(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.statement(ctx, query, args)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.session.QueryContext(ctx, query, args)
	}
	rows, err := s.QueryContext(ctx, args)
	c.forgetStale(query, s, err)
	return rows, err
}

func (c *preparingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (
	driver.Result, error) {
	at := lanesIn(args)
	if at < 0 {
		return c.exec(ctx, query, args)
	}
	all, err := c.shards.byShard(args, at)
	if err != nil {
		return nil, err
	}
	var sum manyResults
	for _, args := range all {
		result, err := c.exec(ctx, query, args)
		if err != nil {
			return nil, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return nil, err
		}
		sum += manyResults(n)
	}
	return sum, nil
}

func (c *preparingConn) exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.statement(ctx, query, args)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.session.ExecContext(ctx, query, args)
	}
	result, err := s.ExecContext(ctx, args)
	c.forgetStale(query, s, err)
	return result, err
}

// statement returns the prepared statement for a text, nil if the text is to be sent unprepared. A text without
// parameters may have several statements, which cannot be prepared.
func (c *preparingConn) statement(ctx context.Context, query string, args []driver.NamedValue) (statement, error) {
	if len(args) == 0 {
		return nil, nil
	}
	if s, ok := c.statements[query]; ok {
		return s, nil
	}
	if len(c.statements) == maxStatements {
		return nil, nil
	}
	prepared, err := c.session.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s, ok := prepared.(statement)
	if !ok {
		return nil, fmt.Errorf("postgres: %T is no statement of lib/pq", prepared)
	}
	c.statements[query] = s
	return s, nil
}

// forgetStale drops a statement whose table was altered in a way that changes its result, so that the next try
// prepares it anew.
func (c *preparingConn) forgetStale(query string, s statement, err error) {
	if isStaleStatement(err) {
		delete(c.statements, query)
		_ = s.Close() // in a failed transaction it cannot be closed; it ends with the session then
	}
}

// isStaleStatement tells whether the server said "cached plan must not change result type", for which it has no code.
func isStaleStatement(err error) bool {
	pqErr := pq.As(err, pqerror.FeatureNotSupported)
	return pqErr != nil && pqErr.Routine == "RevalidateCachedQuery"
}
