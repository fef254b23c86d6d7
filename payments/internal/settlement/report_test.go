package settlement

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// What was refused or has expired is found in the log by its ID, also among many in one batch; what succeeds leaves no line.
func TestTheLogNamesWhatDidNotSucceed(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	_, settle := setupLogged(t, telemetry.NewLogger(&out, telemetry.Config{LogLevel: slog.LevelInfo}, "payments"))
	account := uuid.New()
	request := func(r ledger.Request) postgres.Message {
		if r.ID == uuid.Nil {
			r.ID = uuid.New()
		}
		r.AccountID = account
		return Message(r, "")
	}
	pay := func(amount int64, more func(*ledger.Request)) postgres.Message {
		id := uuid.New()
		r := ledger.Request{ID: id, OrderID: id, Kind: ledger.Payment, Currency: "RUB", Amount: amount, Capture: contract.CaptureAutomatic, AcceptedAt: time.Now()}
		if more != nil {
			more(&r)
		}
		return request(r)
	}
	hold := request(ledger.Request{Kind: ledger.HoldFunds, Currency: "RUB", Amount: 10, ExpiresIn: time.Nanosecond})
	waits := pay(1000, func(r *ledger.Request) { r.WaitForFunds, r.ExpiresAt = true, time.Now().Add(time.Hour) })
	paid := pay(10, nil)
	settle([]postgres.Message{
		request(ledger.Request{Kind: ledger.CreateAccount}), request(ledger.Request{Kind: ledger.Deposit, Currency: "RUB", Amount: 100}), hold, paid,
	})
	if out.Len() > 0 {
		t.Errorf("successes are logged: %s", out.String())
	}
	refused := make([]postgres.Message, 400)
	for i := range refused {
		refused[i] = pay(1000, nil)
	}
	settle(append(refused, waits))
	command := uuid.New()
	settle([]postgres.Message{
		request(ledger.Request{Kind: ledger.Expire, HoldID: hold.ID}),
		request(ledger.Request{Kind: ledger.Cancel, OrderID: waits.ID, Currency: "RUB", Amount: 1000, Capture: contract.CaptureAutomatic}),
		request(ledger.Request{Kind: ledger.Refusal, Reply: &ledger.Reply{CommandID: command, Operation: "dance", Reason: "validation_failed"}}),
	})
	text := out.String()
	for _, m := range append(refused, hold, waits) {
		if !strings.Contains(text, m.ID.String()) {
			t.Errorf("%s %s is not in the log", m.Kind, m.ID)
		}
	}
	if strings.Contains(text, paid.ID.String()) || !strings.Contains(text, command.String()) {
		t.Errorf("what was paid is in the log, or the refused command is not")
	}
	if n := strings.Count(text, "\n"); n > 20 {
		t.Errorf("%d lines", n)
	}
	var line map[string]any
	if err := json.Unmarshal(out.Bytes()[:bytes.IndexByte(out.Bytes(), '\n')], &line); err != nil || line["reason"] != "insufficient_funds" ||
		line["order_id"] != line["operation_id"] || line["account_id"] != account.String() || line["level"] != "INFO" {
		t.Errorf("%v: %v", err, line)
	}
}
