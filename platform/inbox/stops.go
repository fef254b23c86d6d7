package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

const (
	// retryInterval is how often a worker looks for accounts whose head message is due for another try.
	retryInterval = 250 * time.Millisecond
	maxProbes     = 100 // accounts at a time

	// takeUpInterval is how often a worker looks for messages that another version did not know.
	takeUpInterval = 250 * time.Millisecond
)

// Retry says how often a message that fails unexpectedly is tried, and how long its account waits between two attempts:
// First after the first one, twice as long each time, up to Longest. After the last attempt it is parked.
type Retry struct {
	Attempts       int
	First, Longest time.Duration
}

// DefaultRetry parks a message after some 13 s.
var DefaultRetry = Retry{Attempts: 8, First: 100 * time.Millisecond, Longest: 30 * time.Second}

// after is the wait after so many attempts; parked is true when there is no further one.
func (r Retry) after(attempts int) (pause time.Duration, parked bool) {
	if attempts >= r.Attempts {
		return 0, true
	}
	const maxDoublings = 20
	return min(r.First<<min(attempts-1, maxDoublings), r.Longest), false
}

// stop names an account whose queue stands still, see the table inbox_stops.
type stop struct {
	AccountID uuid.UUID `db:"account_id"`
	Lane      int16     `db:"lane"`
}

// stop makes an account's queue stand still after its head message has failed: for a while, or, after too many
// attempts, until an operator acts. Between the failure and the stop another worker may have claimed the same message
// and failed too. The account then stands still already, and the second failure does not count as an attempt.
func (w *Worker[B]) stop(ctx context.Context, m Stored, cause error) error {
	return pg.InTx(ctx, w.inbox.db, func(tx *sqlx.Tx) error {
		if err := lockLane(ctx, tx, m.Lane); err != nil {
			return err
		}
		var attempts int
		err := tx.GetContext(ctx, &attempts, `
			INSERT INTO inbox_stops (account_id, lane, message_id, attempts, reason)
			SELECT account_id, lane, id, 1, $4 FROM inbox WHERE account_id = $1 AND lane = $2 AND id = $3
			ON CONFLICT (account_id, lane) DO UPDATE SET
				attempts = CASE WHEN inbox_stops.message_id = excluded.message_id THEN inbox_stops.attempts + 1 ELSE 1 END,
				message_id = excluded.message_id, reason = excluded.reason, probing = false, stopped_at = excluded.stopped_at
			WHERE inbox_stops.probing OR inbox_stops.message_id <> excluded.message_id
			RETURNING attempts`, m.AccountID, m.Lane, m.ID, pg.Storable(cause.Error()))
		if errors.Is(err, sql.ErrNoRows) {
			return nil // another worker has settled it meanwhile, or has stopped its account
		}
		if err != nil {
			return fmt.Errorf("inbox: stop: %w", err)
		}
		outcome := "retried"
		pause, parked := w.retry.after(attempts)
		if parked {
			outcome = "parked"
		}
		if _, err := tx.ExecContext(ctx, `
			UPDATE inbox_stops SET retry_at = statement_timestamp() + make_interval(secs => $3)
			WHERE account_id = $1 AND lane = $2`,
			m.AccountID, m.Lane, sql.NullFloat64{Float64: pause.Seconds(), Valid: !parked}); err != nil {
			return fmt.Errorf("inbox: stop: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `
			UPDATE inbox SET stopped = true WHERE account_id = $1 AND lane = $2 AND NOT stopped`,
			m.AccountID, m.Lane); err != nil {
			return fmt.Errorf("inbox: stop: %w", err)
		}
		w.failures.WithLabelValues(outcome).Inc()
		attributes := append([]any{"outcome", outcome, "id", m.ID, "attempts", attempts, "error", cause}, w.about(m)...)
		w.log.Error("message failed; its account's queue stands still", attributes...)
		return nil
	})
}

// keep makes the queues of accounts stand still at a message that this version does not know, in the transaction that
// has claimed it: until a worker that knows it takes it up. Earlier versions do not take such a stop for a parked
// message either.
func (w *Worker[B]) keep(ctx context.Context, tx *sqlx.Tx, unknown []Stored) error {
	n := len(unknown)
	if n == 0 {
		return nil
	}
	ids, accounts, lanes := make(pg.UUIDs, n), make(pg.UUIDs, n), make(pg.Int16s, n)
	for i, m := range unknown {
		ids[i], accounts[i], lanes[i] = m.ID, m.AccountID, m.Lane
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO inbox_stops (account_id, lane, message_id, attempts, reason, retry_at)
		SELECT account_id, lane, id, 0, $4, 'infinity'
		FROM unnest($1::uuid[], $2::smallint[], $3::uuid[]) AS m (account_id, lane, id)
		ON CONFLICT (account_id, lane) DO UPDATE SET message_id = excluded.message_id, attempts = 0,
			reason = excluded.reason, probing = false, retry_at = excluded.retry_at, stopped_at = excluded.stopped_at`,
		accounts, lanes, ids, ErrUnknown.Error()); err != nil {
		return fmt.Errorf("inbox: keep for a later version: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE inbox SET stopped = true WHERE account_id = ANY($1::uuid[]) AND lane = ANY($2::smallint[]) AND NOT stopped`,
		accounts, lanes); err != nil {
		return fmt.Errorf("inbox: keep for a later version: %w", err)
	}
	telemetry.LogEach(w.log, slog.LevelWarn,
		"message is not known to this version; its account's queue waits for one that knows it", "id", n,
		func(i int) string { return unknown[i].ID.String() }, func(i int) []any { return w.about(unknown[i]) })
	return nil
}

// takeUp has those messages tried that another version did not know and this one does. It looks at a page of them,
// those of the accounts after that one, which it sets for the next call, and returns how many it has found.
func (w *Worker[B]) takeUp(ctx context.Context, after *uuid.UUID) (int, error) {
	var rows []Stored
	if err := w.inbox.db.SelectContext(ctx, &rows, `
		SELECT m.* FROM (
			SELECT account_id, lane, message_id FROM inbox_stops
			WHERE retry_at = 'infinity' AND account_id > $1 ORDER BY account_id LIMIT $2
		) s JOIN (SELECT `+columns+` FROM inbox) m ON m.id = s.message_id AND m.lane = s.lane
		ORDER BY m.account_id`, *after, maxProbes); err != nil {
		return 0, fmt.Errorf("inbox: find what is not known: %w", err)
	}
	*after = uuid.Nil
	if len(rows) == maxProbes {
		*after = rows[len(rows)-1].AccountID
	}
	var ids pg.UUIDs
	for _, row := range rows {
		if _, err := w.inbox.decode(row); !errors.Is(err, ErrUnknown) {
			ids = append(ids, row.ID)
		}
	}
	if len(ids) == 0 {
		return 0, nil
	}
	if _, err := w.inbox.db.ExecContext(ctx, `
		UPDATE inbox_stops SET retry_at = statement_timestamp() WHERE message_id = ANY($1::uuid[]) AND retry_at = 'infinity'`,
		ids); err != nil {
		return 0, fmt.Errorf("inbox: take up what is known: %w", err)
	}
	return len(ids), nil
}

// probe makes the head message of each account that is due ready for another try. It returns how many accounts were
// due.
func (w *Worker[B]) probe(ctx context.Context) (int, error) {
	var due []stop
	if err := w.inbox.db.SelectContext(ctx, &due, `
		SELECT account_id, lane FROM inbox_stops
		WHERE retry_at <= statement_timestamp() ORDER BY retry_at LIMIT $1`, maxProbes); err != nil {
		return 0, fmt.Errorf("inbox: find stops: %w", err)
	}
	for _, s := range due {
		if err := pg.InTx(ctx, w.inbox.db, func(tx *sqlx.Tx) error {
			if err := lockLane(ctx, tx, s.Lane); err != nil {
				return err
			}
			// Another worker may have been first, and the message may have failed since, or have taken effect.
			stopped, err := changed(tx.ExecContext(ctx, `
				UPDATE inbox_stops SET probing = true, retry_at = NULL
				WHERE account_id = $1 AND lane = $2 AND retry_at <= statement_timestamp()`, s.AccountID, s.Lane))
			if err != nil {
				return fmt.Errorf("inbox: probe: %w", err)
			}
			if !stopped {
				return nil
			}
			return ready(ctx, tx, s)
		}); err != nil {
			return 0, err
		}
	}
	if len(due) > 0 {
		w.Wake()
	}
	return len(due), nil
}

// ready lets the head message of a stopped account, which the caller has marked as probing, be claimed once more.
func ready(ctx context.Context, tx *sqlx.Tx, s stop) error {
	found, err := changed(tx.ExecContext(ctx, `
		UPDATE inbox SET stopped = false FROM inbox_stops s
		WHERE s.account_id = $1 AND s.lane = $2 AND inbox.id = s.message_id AND inbox.lane = s.lane`, s.AccountID, s.Lane))
	if err != nil {
		return fmt.Errorf("inbox: make ready: %w", err)
	}
	if !found { // somebody has deleted it: there is nothing to wait for
		return wake(ctx, tx, s)
	}
	return nil
}

// wake ends an account's stop: whatever has queued up behind the head message may be claimed.
func wake(ctx context.Context, tx *sqlx.Tx, s stop) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM inbox_stops WHERE account_id = $1 AND lane = $2`,
		s.AccountID, s.Lane); err != nil {
		return fmt.Errorf("inbox: wake: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE inbox SET stopped = false WHERE account_id = $1 AND lane = $2 AND stopped`,
		s.AccountID, s.Lane); err != nil {
		return fmt.Errorf("inbox: wake: %w", err)
	}
	return nil
}

// changed tells whether a statement has changed any row.
func changed(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
