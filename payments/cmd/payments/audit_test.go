package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/audit"
	"github.com/altyn-pay/altyn/platform/service"
)

// The exit code of the command says whether the books are right, and its output which row is not. A later audit can go
// on from where an earlier one has ended.
func TestAudit(t *testing.T) {
	b := setup(t, "all")
	b.Account("7.00")
	b.Until(0, `SELECT count(*) FROM chain_unlinked`)
	run := func(code int, after int64, inJSON bool) string {
		t.Helper()
		var out strings.Builder
		err := service.AuditBooks(t.Context(), &out, program(Config{Config: b.Settings}),
			service.Audit{Load: 100, After: after, JSON: inJSON})
		got, status := 0, interface{ ExitStatus() int }(nil)
		if errors.As(err, &status) {
			got = status.ExitStatus()
		}
		if got != code || (err == nil) != (code == 0) {
			t.Errorf("after %d: %v, want exit code %d: %s", after, err, code, &out)
		}
		return out.String()
	}
	const all = -1
	text := run(0, all, false)
	_, word, _ := strings.Cut(strings.TrimSpace(text), "0 are wrong; go on with --after ")
	end, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		t.Fatalf("it says %s", text)
	}
	account := b.Account("8.00")
	b.Until(0, `SELECT count(*) FROM chain_unlinked`)
	if _, err := b.Owner.Exec(`UPDATE balances SET actual = actual + 1 WHERE account_id = $1`, account); err != nil {
		t.Fatal(err)
	}
	for _, after := range []int64{all, end} {
		var f audit.Finding
		if err := json.Unmarshal([]byte(run(1, after, true)), &f); err != nil || f.ID != account ||
			f.Rule != "balance_entries" || f.Table != "balances" {
			t.Errorf("after %d: %+v, %v", after, f, err)
		}
	}
	if text := run(1, all, false); !strings.Contains(text, fmt.Sprintf("balances %s (RUB in lane ", account)) {
		t.Errorf("it says %s", text)
	}
	b.Settings.Postgres.Port = 1 // nobody listens there
	run(2, all, false)
}
