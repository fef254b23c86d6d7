package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	txTries = 5
	// txPause is the longest pause before the second try; it doubles with each further one. The pause itself is random, so
	// that transactions which collided once do not collide again.
	txPause = 10 * time.Millisecond
)

// InTx runs fn in one READ COMMITTED transaction and commits it, or rolls it back when fn returns an error or panics.
//
// fn is called again, up to 5 times in all, when the transaction loses against others (serialization failure 40001,
// deadlock 40P01) and was rolled back. So fn must set its results anew on each call, and must have no effect outside
// the transaction.
//
// Once fn has returned nil, the end of ctx does not cut the commit off; the session's time limits bound it. After an
// error the transaction has had no effect, unless IsOutcomeUnknown(err). Statements that take effect only once (ON
// CONFLICT DO NOTHING, a WHERE on the old state) make it safe to run the transaction again; see UntilKnown.
func InTx(ctx context.Context, db *sqlx.DB, fn func(tx *sqlx.Tx) error) error {
	return Retry(ctx, func() error { return inTxOnce(ctx, db, fn) })
}

// Retry calls fn, which runs one transaction or a single statement, again when that loses against others; see InTx.
func Retry(ctx context.Context, fn func() error) error {
	pause := txPause
	for try := 1; ; try++ {
		err := fn()
		if try == txTries || !isConflict(err) || !stage.Wait(ctx, rand.N(pause)) {
			return err
		}
		pause *= 2
	}
}

func inTxOnce(ctx context.Context, db *sqlx.DB, fn func(tx *sqlx.Tx) error) error {
	tx, err := begin(ctx, db)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	// After a commit this does nothing. Its error would hide why the transaction is rolled back; a connection on which the
	// rollback fails is closed, which rolls back too.
	defer func() { _ = tx.Rollback() }()

	if err := fn(tx); err != nil {
		return err
	}
	if err := ofCommit(tx.Commit()); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// begin waits for a connection until ctx ends, but returns a transaction that the end of ctx does not roll back:
// database/sql would do so in the middle of a commit.
func begin(ctx context.Context, db *sqlx.DB) (*sqlx.Tx, error) {
	txCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	tx, err := db.BeginTxx(txCtx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if stop() {
		return tx, err
	}
	if err == nil {
		_ = tx.Rollback()
	}
	return nil, ctx.Err()
}

// readTimeout bounds one read, the wait for a free connection included.
const readTimeout = 10 * time.Second

// Detached returns a context for a read on behalf of a client. It outlives the client, because cancelling a statement
// closes its connection, and a crowd that leaves at once would empty the pool. It ends after 10 s.
func Detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
}

// ExecExactly runs a statement that must change exactly n rows. Any other number is an error, so that the transaction
// rolls back; what says in it what the statement was to do.
func ExecExactly(ctx context.Context, tx sqlx.ExecerContext, what string, n int, query string, args ...any) error {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	changed, err := result.RowsAffected()
	if err == nil && changed != int64(n) {
		err = fmt.Errorf("%d rows changed instead of %d", changed, n)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

const (
	// resolveFor is how long UntilKnown tries. PostgreSQL is back from a crash within a few seconds.
	resolveFor = 5 * time.Second
	// The pause before the second try, and the longest one; it doubles in between.
	resolvePause, longestResolvePause = 2 * time.Millisecond, 250 * time.Millisecond
)

// unknownOutcome is the error of a transaction that may or may not have been committed.
type unknownOutcome struct{ cause error }

func (e *unknownOutcome) Error() string { return "outcome unknown: " + e.cause.Error() }
func (e *unknownOutcome) Unwrap() error { return e.cause }

// OutcomeUnknown wraps err so that IsOutcomeUnknown is true. It is for work that failed with err after a part of it was
// committed.
func OutcomeUnknown(err error) error { return &unknownOutcome{err} }

// IsOutcomeUnknown reports whether the transaction that failed with err may have been committed: its connection was
// lost while the commit was under way. After any other error it has had no effect.
func IsOutcomeUnknown(err error) bool {
	return errors.As(err, new(*unknownOutcome))
}

// ofCommit classifies the error of a commit. A server that answers with an error has rolled the transaction back. The
// end of a session is no such answer; see handleError of lib/pq.
func ofCommit(err error) error {
	if err == nil || pq.As(err) != nil || errors.Is(err, pq.ErrInFailedTransaction) {
		return err
	}
	return OutcomeUnknown(err)
}

// InStatement gives fn a connection for a single statement, which is a transaction of its own. The statement is sent
// once, whereas database/sql sends the statement of a pool again when it loses the connection.
func InStatement(ctx context.Context, db *sqlx.DB, fn func(conn *sqlx.Conn) error) error {
	conn, err := db.Connx(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	return ofCommit(fn(conn))
}

// UntilKnown calls fn, which runs a transaction, and calls it again for some seconds while it is not known whether it
// was committed. fn must have its effect only once, however often it is called. Once an outcome was unknown,
// UntilKnown returns nil or an error for which IsOutcomeUnknown is true, because a later try says nothing about the
// first one.
func UntilKnown(ctx context.Context, fn func() error) error {
	err := fn()
	if !IsOutcomeUnknown(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, resolveFor)
	defer cancel()
	for pause := resolvePause; ; pause = min(2*pause, longestResolvePause) {
		if !stage.Wait(ctx, pause) {
			return err
		}
		again := fn()
		if again == nil {
			return nil
		}
		err = OutcomeUnknown(again)
		if !IsTransient(again) {
			return err
		}
	}
}
