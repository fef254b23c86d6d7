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
	// resolveFor is how long UntilKnown asks again. PostgreSQL is back from a crash within a few seconds.
	resolveFor = 5 * time.Second
	// The pause before the second try, which doubles up to the longest one.
	resolvePause, longestResolvePause = 2 * time.Millisecond, 250 * time.Millisecond
)

// unknownOutcome is the error of a transaction of which nobody knows whether it was committed.
type unknownOutcome struct{ cause error }

func (e *unknownOutcome) Error() string { return "outcome unknown: " + e.cause.Error() }
func (e *unknownOutcome) Unwrap() error { return e.cause }

// OutcomeUnknown returns err as one of which IsOutcomeUnknown is true. It is for work that err has ended when a part
// of it was committed already.
func OutcomeUnknown(err error) error { return &unknownOutcome{err} }

// IsOutcomeUnknown reports whether the transaction that failed with err may have been committed: its connection was
// lost while the commit was under way. After any other error it has had no effect.
func IsOutcomeUnknown(err error) bool {
	var unknown *unknownOutcome
	return errors.As(err, &unknown)
}

// ofCommit is the error of a commit. A server that answers with an error has rolled the transaction back; that of a
// session which ends is none of its answers, see handleError of lib/pq.
func ofCommit(err error) error {
	if err == nil || pq.As(err) != nil || errors.Is(err, pq.ErrInFailedTransaction) {
		return err
	}
	return OutcomeUnknown(err)
}

// InStatement runs a single statement, which is a transaction of its own, on a connection that is given to fn. It
// repeats nothing, whereas database/sql sends a statement of a pool again when it loses the connection.
func InStatement(ctx context.Context, db *sqlx.DB, fn func(conn *sqlx.Conn) error) error {
	conn, err := db.Connx(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	return ofCommit(fn(conn))
}

// UntilKnown calls fn, which runs a transaction, and calls it again for some seconds while it is not known whether it
// was committed. fn must have its effect only once, however often it is called. Once an outcome was unknown, what
// UntilKnown returns is nil or an error of which IsOutcomeUnknown is true: that of a later try tells nothing about
// the first one.
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
