package broker

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/strictjson"
)

// orderPlaced makes the payment's request of an event. The request's ID is the order's, so that the event takes effect
// once however often it comes.
func orderPlaced(currencies *money.Currencies, payload []byte) (ledger.Request, error) {
	var order contract.Order
	if err := strictjson.UnmarshalEvent(payload, &order); err != nil {
		return ledger.Request{}, fmt.Errorf("not an order: %w", err)
	}
	p, err := payment(currencies, order)
	return ledger.Request{By: identity.Reach{Owner: order.Owner}, ID: order.OrderID, AccountID: order.AccountID,
		Command: p}, err
}

// orderCancelled makes the request that ends a payment of an event. There is one for each order.
func orderCancelled(currencies *money.Currencies, payload []byte) (ledger.Request, error) {
	var cancellation contract.Cancellation
	if err := strictjson.UnmarshalEvent(payload, &cancellation); err != nil {
		return ledger.Request{}, fmt.Errorf("not a cancellation: %w", err)
	}
	note := contract.NoteOf(cancellation.Reason, cancellation.Note)
	if err := contract.CheckText(note, contract.MaxReason); err != nil {
		return ledger.Request{}, fmt.Errorf("note %w", err)
	}
	p, err := payment(currencies, cancellation.Order)
	account := cancellation.AccountID
	return ledger.Request{
		By: identity.Reach{Owner: cancellation.Owner},
		ID: contract.DerivedID(contract.OrderCancelledType, account, p.OrderID.String()), AccountID: account,
		Command: ledger.Cancel{
			Currency: p.Currency, Amount: p.Amount, Reference: p.Reference, Description: p.Description, OrderID: p.OrderID,
			Capture: p.Capture, Note: note, Refused: p.Refused, Repeated: p.Repeated,
		},
	}, err
}

// payment is the payment of an order as the events of orders tell it.
func payment(currencies *money.Currencies, order contract.Order) (ledger.Payment, error) {
	if order.OrderID == uuid.Nil || order.AccountID == uuid.Nil {
		return ledger.Payment{}, fmt.Errorf("order_id and account_id are required")
	}
	if order.Capture != contract.CaptureAutomatic && order.Capture != contract.CaptureManual {
		return ledger.Payment{}, fmt.Errorf("capture %q is not known", order.Capture)
	}
	if o := order.OnInsufficient; o != "" && o != contract.OnInsufficientReject && o != contract.OnInsufficientWait {
		return ledger.Payment{}, fmt.Errorf("on_insufficient %q is not known", o)
	}
	// In another number of digits the amount may mean something else: better no payment than one of another amount.
	var refused ledger.Reason
	code, amount := order.Currency, int64(0)
	if currency, ok := currencies.Lookup(code); ok && money.Digits(order.Amount) == currency.Digits {
		var err error
		if amount, err = currency.Parse(order.Amount); err != nil {
			return ledger.Payment{}, fmt.Errorf("amount %w", err)
		}
	} else {
		foreign, err := money.ParseForeign(code, order.Amount)
		if err != nil {
			return ledger.Payment{}, err
		}
		code, amount, refused = foreign.Name(), foreign.Minor, ledger.CurrencyMismatch
	}
	for _, text := range []struct {
		field, value string
		limit        int
	}{
		{"description", order.Description, contract.MaxDescription},
		{"reference", order.Reference, contract.MaxReference},
	} {
		if err := contract.CheckText(text.value, text.limit); err != nil {
			return ledger.Payment{}, fmt.Errorf("%s %w", text.field, err)
		}
	}
	p := ledger.Payment{
		Currency: code, Amount: amount, Reference: order.Reference, Description: order.Description, OrderID: order.OrderID,
		Capture: order.Capture, Refused: refused, Repeated: order.Repeated,
		AwaitInventory: order.AwaitInventory, WaitForFunds: order.OnInsufficient == contract.OnInsufficientWait,
	}
	// What is settled at once has no use for a time from which its deadline counts.
	if p.AwaitInventory || p.WaitForFunds || p.Capture == contract.CaptureManual {
		p.AcceptedAt = time.Time(order.CreatedAt).UTC()
	}
	if order.ExpiresAt != nil {
		p.ExpiresAt = time.Time(*order.ExpiresAt).UTC()
	}
	return p, nil
}
