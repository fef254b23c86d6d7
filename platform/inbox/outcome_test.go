package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// A large batch is accepted in two transactions. When the answer to a commit is lost, or one of the two fails and the
// other does not, all of it is accepted in the end, once, and each message knows its record.
func TestAcceptDoesNotKnowWhetherItWasCommitted(t *testing.T) {
	for name, moment := range map[string]postgrestest.Moment{"before": postgrestest.BeforeCommit,
		"after": postgrestest.AfterCommit} {
		for _, n := range []int{3, largeBatch} {
			t.Run(fmt.Sprint(name, " the commit, ", n, " messages"), func(t *testing.T) {
				b := setup(t)
				proxy := postgrestest.Through(t, b.Config)
				db, err := pg.Open(proxy.Config)
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				seqs := make(map[uuid.UUID]int64) // of the permanent records
				var mu sync.Mutex
				w := NewWorker(New[string](db, text{}), func(ctx context.Context, tx *sqlx.Tx, batch []Stored) (func(), error) {
					records := make(map[uuid.UUID]int64)
					for _, m := range batch {
						if err := tx.GetContext(ctx, new(uuid.UUID), `
							INSERT INTO effects (id, account_id, payload) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING id`,
							m.ID, m.AccountID, m.Body); err == nil {
							records[m.ID] = m.Seq
						} else if !errors.Is(err, sql.ErrNoRows) {
							return nil, err
						}
					}
					mu.Lock()
					defer mu.Unlock()
					maps.Copy(seqs, records) // also of what is not committed: only the last ones are
					return nil, nil
				}, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
				messages := make([]Stored, n)
				for i := range messages {
					messages[i] = message(uuid.New(), i)
				}
				lost := proxy.Lose(moment, "INSERT INTO effects", 1)
				arrivals, err := NewIntake(w.inbox, w).Accept(t.Context(), messages...)
				if err != nil || len(lost) != 1 {
					t.Fatalf("%v, lost %d", err, len(lost))
				}
				b.count(n, `SELECT count(*) FROM effects`)
				b.count(0, `SELECT count(*) FROM inbox`)
				for i, m := range messages {
					if !arrivals[i].Made(seqs[m.ID]) || arrivals[i].Made(seqs[m.ID]+1_000_000) || arrivals[i].Made(0) {
						t.Fatalf("message %d: %+v, its record has %d", i, arrivals[i], seqs[m.ID])
					}
				}
			})
		}
	}
}

// While one half is accepted and the other one is not, nobody can say that nothing was done.
func TestAHalfOfABatchIsAccepted(t *testing.T) {
	b := setup(t)
	w := b.worker()
	in := b.intake(w)
	messages := make([]Stored, largeBatch)
	for i := range messages {
		messages[i] = message(uuid.New(), i)
	}
	parts := in.split(messages)
	away := errors.New("connection refused")
	w.handle = func(ctx context.Context, tx *sqlx.Tx, batch []Stored) (func(), error) {
		if half(batch[0].Lane) == 1 {
			return nil, &net.OpError{Op: "dial", Err: away}
		}
		return b.handle(ctx, tx, batch)
	}
	arrivals := make([]Arrival, len(messages))
	if err := in.acceptParts(t.Context(), parts, arrivals); !errors.Is(err, away) || !pg.IsOutcomeUnknown(err) {
		t.Errorf("got %v", err)
	}
	w.handle = b.handle
	if err := in.acceptParts(t.Context(), parts, arrivals); err != nil {
		t.Error(err)
	}
	b.count(len(messages), `SELECT count(*) FROM effects`)
	for i, arrival := range arrivals {
		if arrival.Seq == 0 {
			t.Fatalf("message %d has not arrived", i)
		}
	}
}
