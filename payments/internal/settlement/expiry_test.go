package settlement

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// However many deadlines are over at once, all are met at the next look.
func TestAllThatIsDueExpiresAtOnce(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "payments", postgres.Migrations()...)
	const due = 2345
	if _, err := db.Owner.ExecContext(t.Context(), `
		INSERT INTO holds (id, lane, account_id, currency, amount, captured, status, expires_at, created_at)
		SELECT gen_random_uuid(), 1, gen_random_uuid(), 'RUB', 1, 0, 'open', now(), now() FROM generate_series(1, $1)`, due); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	e := NewExpiry(postgres.New(db.Service), slog.New(slog.DiscardHandler), stop)
	if err := e.Run(ctx); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.Owner.GetContext(t.Context(), &n, `SELECT count(*) FROM inbox WHERE kind = 'expire'`); err != nil {
		t.Fatal(err)
	}
	if n != due {
		t.Errorf("%d of %d deadlines were met", n, due)
	}
}
