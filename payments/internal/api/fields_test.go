package api_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/payments/docs"
	"github.com/altyn-pay/altyn/payments/internal/api"
	"github.com/altyn-pay/altyn/platform/contract"
)

// The body of a single request has fields of its operation only, by the table of all commands: what it lacks is in the
// path, or another name.
func TestBodiesHaveTheFieldsOfTheirOperations(t *testing.T) {
	for operation, body := range map[string]any{
		"create_account": api.NewAccount{}, "deposit": api.Amount{}, "withdraw": api.NewWithdrawal{},
		"transfer": api.NewTransfer{},
		"hold":     api.NewHold{}, "capture": api.NewCapture{}, "release": struct{}{}, "cancel": api.CancelOperation{},
	} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(body)) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if !field.Anonymous && !slices.Contains(contract.Fields(operation), name) {
				t.Errorf("%s has the field %s over HTTP alone", operation, name)
			}
		}
	}
}

// The specification of a batch says which fields an operation has, as the table of all commands does.
func TestBatchIsDescribedWithTheFieldsOfEachOperation(t *testing.T) {
	var spec struct {
		Paths map[string]map[string]struct{ Description string }
	}
	if err := json.Unmarshal([]byte(docs.Document), &spec); err != nil {
		t.Fatal(err)
	}
	description := spec.Paths["/api/v1/operations/batch"]["post"].Description + "\n"
	for _, operation := range contract.Operations() {
		if operation == "balance" { // is asked for by GET
			continue
		}
		if line := "\n- " + operation + ": " + strings.Join(contract.Fields(operation),
			", ") + "\n"; !strings.Contains(description, line) {
			t.Errorf("the description lacks the line %s", strings.TrimSpace(line))
		}
	}
}
