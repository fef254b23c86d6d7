package postgrestest

import (
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/testkit/wait"
)

// AwaitCount waits until a query counts n.
func AwaitCount(t testing.TB, db *sqlx.DB, n int, query string, args ...any) {
	t.Helper()
	wait.NoError(t, func() error {
		var got int
		if err := db.GetContext(t.Context(), &got, query, args...); err != nil {
			t.Fatal(err)
		}
		if got != n {
			return fmt.Errorf("%s: %d, want %d", query, got, n)
		}
		return nil
	})
}
