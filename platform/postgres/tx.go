package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jmoiron/sqlx"
)

const (
	txTries = 5
	// The pause before the second try; it doubles for each further one and is drawn at random between zero and itself, so
	// that transactions which met once do not meet again.
	txPause = 10 * time.Millisecond
)

// InTx runs fn in one READ COMMITTED transaction and commits it, or rolls it back when fn returns an error or panics.
//
// fn is called again, up to 5 times in all, when the transaction loses against others (serialization failure 40001,
// deadlock 40P01; it is rolled back by then). So fn must set what it returns to its caller afresh on each call, and
// must have no effect outside the transaction.
//
// Once fn has returned nil, the commit is not cut off by the end of ctx; the session's time limits bound it. After an
// error the transaction has had no effect, except when IsOutcomeUnknown(err). Statements that succeed only once (ON
// CONFLICT DO NOTHING, a WHERE on the old state) make it safe to run it again, see UntilKnown.
func InTx(ctx context.Context, db *sqlx.DB, fn func(tx *sqlx.Tx) error) error {
	return Retry(ctx, func() error { return inTxOnce(ctx, db, fn) })
}

// Retry calls fn, which is a transaction, such as a single statement, again when it loses against others; see InTx.
func Retry(ctx context.Context, fn func() error) error {
	pause := txPause
	for try := 1; ; try++ {
		err := fn()
		if try == txTries || !isConflict(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rand.N(pause)):
			pause *= 2
		}
	}
}

func inTxOnce(ctx context.Context, db *sqlx.DB, fn func(tx *sqlx.Tx) error) error {
	tx, err := begin(ctx, db)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	// After the commit this does nothing. Its error would hide why the transaction is given up; a connection on which the
	// rollback fails is closed, and that rolls back too.
	defer func() { _ = tx.Rollback() }()

	if err := fn(tx); err != nil {
		return err
	}
	if err := ofCommit(tx.Commit()); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// begin waits for a connection no longer than ctx lasts, but gives back a transaction that the end of ctx does not roll
// back by itself: database/sql would do so in the middle of a commit.
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

// Detached returns a context for a read on behalf of a client. It goes on when the client leaves: cancelling a
// statement closes its connection, and a crowd that leaves at once would empty the pool. It ends after 10 s.
func Detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
}
