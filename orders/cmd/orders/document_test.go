package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

const (
	configurationPage = "../../../docs/configuration.md"
	schemaPage        = "../../../docs/schema.md"
	flowsPage         = "../../../docs/flows.md"
)

func TestConfigurationHasEveryVariable(t *testing.T) {
	text, err := os.ReadFile(configurationPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range config.Variables[Config]() {
		if !strings.Contains(string(text), v.Row()) {
			t.Errorf("%s lacks the row\n%s", configurationPage, v.Row())
		}
	}
}

func TestDocumentHasTheSchema(t *testing.T) {
	postgrestest.CheckDiagram(t, postgrestest.Database(t, name, postgres.Migrations()...).Owner, schemaPage)
}

// arrow is a line of a state diagram; [*] is its beginning and its end.
var arrow = regexp.MustCompile(`^ +(\[\*\]|\w+) --> (\[\*\]|\w+)(?: : .+)?$`)

// readStates returns the arrows of the state diagram in flows.
func readStates(t *testing.T) map[[2]string]bool {
	t.Helper()
	text, err := os.ReadFile(flowsPage)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## The states of an order\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, diagram, _ := strings.Cut(section, "```mermaid\nstateDiagram-v2\n")
	diagram, _, ended := strings.Cut(diagram, "\n```")
	if !ended {
		t.Fatalf("%s has no state diagram", flowsPage)
	}
	arrows := map[[2]string]bool{}
	for line := range strings.Lines(diagram) {
		parts := arrow.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if parts == nil || arrows[[2]string{parts[1], parts[2]}] {
			t.Fatalf("%s has the line %q in its state diagram, or has it twice", flowsPage, line)
		}
		arrows[[2]string{parts[1], parts[2]}] = true
	}
	return arrows
}

// The state machine is written down three times: as a diagram in docs/flows.md, as a table in package order, and as
// CHECKs in the schema. Every pair of statuses, known or not, is in all of them or in none.
func TestTheStateMachineIsOne(t *testing.T) {
	t.Parallel()
	diagram, db := readStates(t), postgrestest.Database(t, name, postgres.Migrations()...)
	want := map[[2]string]bool{{"[*]", string(order.Pending)}: true}
	statuses := append(order.Statuses(), "", "created", "Pending")
	for _, from := range statuses {
		if from.Final() {
			want[[2]string{string(from), "[*]"}] = true
		}
		for _, to := range statuses {
			if from.CanBecome(to) {
				want[[2]string{string(from), string(to)}] = true
			}
			_, err := db.Service.Exec(`INSERT INTO order_history (order_id, number, at, from_status, to_status, reason)
				VALUES ($1, 2, now(), $2, $3, '')`, uuid.New(), from, to)
			if refused := pq.As(err, pqerror.CheckViolation) != nil; refused == from.CanBecome(to) || err != nil && !refused {
				t.Errorf("%s → %s: %v in the schema; in the code %v", from, to, err, from.CanBecome(to))
			}
		}
		_, err := db.Service.Exec(`INSERT INTO orders (id, account_id, amount, currency, description, reference,
			capture, await_inventory,
			on_insufficient, status, version, fingerprint, created_at, updated_at)
			VALUES ($1, $1, 1, 'RUB', '', '', 'automatic', false, 'reject', $2, 1, $1, now(), now())`, uuid.New(), from)
		if known := slices.Contains(order.Statuses(), from); known != (err == nil) || err != nil &&
			pq.As(err, pqerror.CheckViolation) == nil {
			t.Errorf("status %q: %v in the schema", from, err)
		}
	}
	for pair := range want {
		if !diagram[pair] {
			t.Errorf("%s → %s is not in the diagram of %s", pair[0], pair[1], flowsPage)
		}
	}
	for pair := range diagram {
		if !want[pair] {
			t.Errorf("%s → %s is in the diagram of %s alone", pair[0], pair[1], flowsPage)
		}
	}
}
