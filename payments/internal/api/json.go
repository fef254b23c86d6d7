package api

import (
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
)

// Entry is one line of an account's statement: what an operation changed, and the balances after it.
type Entry struct {
	Number       int64         `json:"number" example:"1"`
	OperationID  uuid.UUID     `json:"operation_id"`
	Operation    string        `json:"operation" example:"deposit"`
	Currency     string        `json:"currency" example:"RUB"`
	Amount       string        `json:"amount" example:"777.00"`
	Frozen       string        `json:"frozen" example:"0.00"`
	BalanceAfter string        `json:"balance_after" example:"777.00"`
	FrozenAfter  string        `json:"frozen_after" example:"0.00"`
	CreatedAt    contract.Time `json:"created_at"`
	// of the operation: its order, its reference and description, and what a client said of it
	OrderID     uuid.UUID `json:"order_id,omitzero" validate:"optional" swaggertype:"string" format:"uuid"`
	Reference   string    `json:"reference,omitempty" example:"invoice-17"`
	Description string    `json:"description,omitempty" example:"Order 17 of the shop"`
	Note        string    `json:"note,omitempty"`
} // @name Entry

// Hold is money that is set aside.
type Hold struct {
	ID             uuid.UUID         `json:"id"`
	AccountID      uuid.UUID         `json:"account_id"`
	Amount         string            `json:"amount" example:"100.00"`
	Currency       string            `json:"currency" example:"RUB"`
	CapturedAmount string            `json:"captured_amount" example:"0.00"`
	Status         ledger.HoldStatus `json:"status" swaggertype:"string" enums:"open,captured,released,expired"`
	// it ends through this order's payment
	OrderID   uuid.UUID     `json:"order_id,omitzero" validate:"optional" swaggertype:"string" format:"uuid"`
	ExpiresAt contract.Time `json:"expires_at"`
	CreatedAt contract.Time `json:"created_at"`
} // @name Hold

// CurrencyList is the list of currencies; it comes whole.
type CurrencyList struct {
	Items []money.Currency `json:"items"`
} // @name CurrencyList

func (a *API) entry(e postgres.Entry) (Entry, error) {
	currency, err := a.present.Currency(e.Currency)
	return Entry{
		Number: e.Number, OperationID: e.OperationID, Operation: string(e.Operation), Currency: e.Currency,
		Amount: currency.Format(e.Amount), Frozen: currency.Format(e.Frozen),
		BalanceAfter: currency.Format(e.BalanceAfter), FrozenAfter: currency.Format(e.FrozenAfter),
		CreatedAt: contract.Time(e.CreatedAt),
		OrderID:   e.OrderID, Reference: e.Reference, Description: e.Description, Note: e.Note,
	}, err
}

func (a *API) hold(h ledger.Hold) (Hold, error) {
	currency, err := a.present.Currency(h.Currency)
	return Hold{
		ID: h.ID, AccountID: h.AccountID, Amount: currency.Format(h.Amount), Currency: h.Currency,
		CapturedAmount: currency.Format(h.Captured), Status: h.Status, OrderID: h.OrderID,
		ExpiresAt: contract.Time(h.ExpiresAt), CreatedAt: contract.Time(h.CreatedAt),
	}, err
}
