package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// The state machine of a payment is written down in the code, in the schema and in docs/flows.md: they say the same.
func TestTheStatesOfAPayment(t *testing.T) {
	t.Parallel()
	statuses := []string{"", contract.PaymentCreated, contract.PaymentAuthorized,
		contract.PaymentSucceeded, contract.PaymentFailed,
		contract.PaymentCancelled, contract.PaymentRefunded}
	text, err := os.ReadFile(flowsPage)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## The states of a payment")
	_, section, _ = strings.Cut(section, "stateDiagram-v2")
	diagram, _, _ := strings.Cut(section, "```")
	drawn := map[[2]string]bool{}
	for _, arrow := range regexp.MustCompile(`(?m)^\s*(\S+) --> (\S+?)(?: *:.*)?$`).FindAllStringSubmatch(diagram, -1) {
		if arrow[2] != "[*]" {
			drawn[[2]string{strings.Trim(arrow[1], "[*]"), arrow[2]}] = true
		}
	}
	db := postgrestest.Database(t, name, postgres.Migrations()...).Owner
	for _, from := range statuses {
		for _, to := range statuses[1:] {
			allowed := ledger.PaymentCanBecome(from, to)
			if drawn[[2]string{from, to}] != allowed {
				t.Errorf("from %q to %q: the code says %v, docs/flows.md does not", from, to, allowed)
			}
			_, err := db.Exec(`
				INSERT INTO payments (order_id, lane, account_id, currency, amount, capture, previous, status, captured, refunded,
					version, created_at, updated_at)
				VALUES (gen_random_uuid(), 0, gen_random_uuid(), 'RUB', 1, 'manual', $1, $2, 0, 0, 1, now(), now())`, from, to)
			if (err == nil) != allowed {
				t.Errorf("from %q to %q: the code says %v, the schema %v", from, to, allowed, err)
			}
		}
	}
}
