package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

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
	var unknown *unknownOutcome
	return errors.As(err, &unknown)
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
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
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
