package settlement

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// What succeeded, was refused or has expired is found in the log by its ID, also among many in one batch.
func TestTheLogNamesWhatWasSettled(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	_, settle := setupLogged(t, telemetry.NewLogger(&out, telemetry.Config{LogLevel: slog.LevelInfo}, "payments"))
	account := uuid.New()
	request := func(r ledger.Request) postgres.Message {
		if r.ID == uuid.Nil {
			r.ID = uuid.New()
		}
		r.AccountID = account
		return billing.Message(r, "00-"+traceID+"-00f067aa0ba902b7-00")
	}
	pay := func(c ledger.Payment) postgres.Message {
		c.OrderID, c.Currency, c.Capture, c.AcceptedAt = uuid.New(), "RUB", contract.CaptureAutomatic, time.Now()
		return request(ledger.Request{ID: c.OrderID, Command: c})
	}
	hold := request(ledger.Request{Command: ledger.HoldFunds{Currency: "RUB", Amount: 10, ExpiresIn: time.Nanosecond}})
	waits := pay(ledger.Payment{Amount: 1000, WaitForFunds: true, ExpiresAt: time.Now().Add(time.Hour)})
	paid := pay(ledger.Payment{Amount: 10})
	settle([]postgres.Message{
		request(ledger.Request{Command: ledger.CreateAccount{}}),
		request(ledger.Request{Command: ledger.Deposit{Currency: "RUB", Amount: 100}}), hold, paid,
	})
	var line map[string]any
	if err := json.Unmarshal(lineWith(out.String(), paid.ID.String()), &line); err != nil ||
		line["msg"] != "operation succeeded" || line["order_id"] != paid.ID.String() || line["operation"] != "payment" ||
		line["account_id"] != account.String() || line["tenant"] != "default" || line["trace_id"] != traceID {
		t.Errorf("%v: %v", err, line)
	}
	out.Reset()
	refused := make([]postgres.Message, 400)
	for i := range refused {
		refused[i] = pay(ledger.Payment{Amount: 1000})
	}
	settle(append(refused, waits))
	command := uuid.New()
	settle([]postgres.Message{
		request(ledger.Request{Command: ledger.Expire{HoldID: hold.ID}}),
		request(ledger.Request{Command: ledger.Cancel{
			OrderID: waits.ID, Currency: "RUB", Amount: 1000, Capture: contract.CaptureAutomatic,
		}}),
		request(ledger.Request{
			Command: ledger.Refusal{}, Reply: billing.ReplyTo{CommandID: command, Operation: "dance",
				Reason: "validation_failed"}.Encode(),
		}),
	})
	text := out.String()
	for _, m := range append(refused, hold, waits) {
		if !strings.Contains(text, m.ID.String()) {
			t.Errorf("%s %s is not in the log", m.Kind, m.ID)
		}
	}
	if !strings.Contains(text, command.String()) {
		t.Errorf("the refused command is not in the log")
	}
	if n := strings.Count(text, "\n"); n > 20 {
		t.Errorf("%d lines", n)
	}
	clear(line)
	if err := json.Unmarshal(lineWith(text, refused[0].ID.String()), &line); err != nil ||
		line["reason"] != "insufficient_funds" ||
		line["order_id"] != line["operation_id"] || line["account_id"] != account.String() || line["level"] != "INFO" {
		t.Errorf("%v: %v", err, line)
	}
}

const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"

// lineWith is the first line of a log with a text.
func lineWith(log, text string) []byte {
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			return []byte(line)
		}
	}
	return nil
}
