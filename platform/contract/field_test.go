package contract_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/altyn-pay/altyn/platform/contract"
)

func TestWithinNamesTheFieldsOfAnItem(t *testing.T) {
	item := contract.FieldErrors{{Field: "amount", Detail: "is required"}, {Field: "currency", Detail: "is not known"}}
	err := contract.Within("orders[3].", fmt.Errorf("read the order: %w", item))
	var got contract.FieldErrors
	want := contract.FieldErrors{{Field: "orders[3].amount", Detail: "is required"},
		{Field: "orders[3].currency", Detail: "is not known"}}
	if !errors.As(err, &got) || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", err)
	}
	if item[0].Field != "amount" {
		t.Error("the item's own error was changed")
	}
	if other := errors.New("the database is away"); !errors.Is(contract.Within("orders[3].", other), other) ||
		contract.Within("x", nil) != nil {
		t.Error("another error was changed")
	}
}
