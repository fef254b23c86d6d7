package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// A transaction and a single statement, each of which adds 5 once.
func once(ctx context.Context, db *sqlx.DB) map[string]func() error {
	const statement = `UPDATE things SET n = 5 WHERE id = $1 AND n = 0`
	return map[string]func() error{
		"InTx": func() error {
			return pg.InTx(ctx, db, func(tx *sqlx.Tx) error {
				_, err := tx.ExecContext(ctx, statement, 1)
				return err
			})
		},
		"InStatement": func() error {
			return pg.InStatement(ctx, db, func(conn *sqlx.Conn) error {
				_, err := conn.ExecContext(ctx, statement, 1)
				return err
			})
		},
	}
}

func TestWhatIsKnownOfACommit(t *testing.T) {
	database := postgrestest.Database(t, "orders", things)
	proxy := postgrestest.Through(t, database.Config)
	db, err := pg.Open(proxy.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	reset := func() { database.Owner.MustExec(`UPDATE things SET n = 0`) }
	for name, run := range once(t.Context(), db) {
		for moment, want := range map[postgrestest.Moment]int{postgrestest.BeforeCommit: 0, postgrestest.AfterCommit: 5} {
			reset()
			lost := proxy.Lose(moment, "UPDATE things", 1)
			if err := run(); !pg.IsOutcomeUnknown(err) || !pg.IsTransient(err) || len(lost) != 1 ||
				total(t, database.Owner) != want {
				t.Errorf("%s, moment %d: %v, lost %d, total %d", name, moment, err, len(lost), total(t, database.Owner))
			}
			reset()
			proxy.Lose(moment, "UPDATE things", 3)
			if err := pg.UntilKnown(t.Context(), run); err != nil || total(t, database.Owner) != 5 {
				t.Errorf("%s, moment %d: %v, total %d", name, moment, err, total(t, database.Owner))
			}
		}
		// Nothing can have happened: the kept connection is dead, and there is no other one.
		proxy.Away(true)
		if err := run(); err == nil || pg.IsOutcomeUnknown(err) || !pg.IsUnavailable(err) {
			t.Errorf("%s without a server: %v", name, err)
		}
		proxy.Away(false)
		// The server itself says that it did nothing.
		reset()
		database.Owner.MustExec(`ALTER TABLE things ADD CONSTRAINT no CHECK (n <> 5) NOT VALID`)
		if err := run(); err == nil || pg.IsOutcomeUnknown(err) || pg.IsTransient(err) {
			t.Errorf("%s that the server refuses: %v", name, err)
		}
		database.Owner.MustExec(`ALTER TABLE things DROP CONSTRAINT no`)
	}
}

func TestUntilKnown(t *testing.T) {
	away, refused := pg.OutcomeUnknown(errors.New("lost")), errors.New("refused")
	ended, end := context.WithCancel(t.Context())
	end()
	for _, test := range []struct {
		name    string
		ctx     context.Context
		errs    []error // of the tries
		tries   int
		unknown bool
	}{
		{"success", t.Context(), []error{nil}, 1, false},
		{"a refusal is known", t.Context(), []error{refused}, 1, false},
		{"success at last", t.Context(), []error{away, context.DeadlineExceeded, away, nil}, 4, false},
		{"a refusal says nothing of the first try", t.Context(), []error{away, refused}, 2, true},
		{"no time is left", ended, []error{away}, 1, true},
	} {
		tries := 0
		err := pg.UntilKnown(test.ctx, func() error { tries++; return test.errs[tries-1] })
		if tries != test.tries || pg.IsOutcomeUnknown(err) != test.unknown || (err == nil) != (test.errs[tries-1] == nil) {
			t.Errorf("%s: %d tries, %v", test.name, tries, err)
		}
	}
}
