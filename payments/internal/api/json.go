package api

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/payments/internal/settlement"
	"github.com/altyn-pay/altyn/platform/contract"
)

// Account is a client's account.
type Account struct {
	ID        uuid.UUID `json:"id" example:"01a0a3c5-96a1-7c4e-8d7c-6a1f0e9f2b11"`
	Owner     string    `json:"owner" example:"alice"`
	Reference string    `json:"reference,omitempty" example:"customer-42"`
	CreatedAt time.Time `json:"created_at"`
	Balances  []Balance `json:"balances"`
} // @name Account

// Balance is what an account has of one currency: actual is free to use, frozen is set aside by holds.
type Balance struct {
	Currency string `json:"currency" example:"RUB"`
	Actual   string `json:"actual" example:"2500.00"`
	Frozen   string `json:"frozen" example:"0.00"`
} // @name Balance

// Balances are an account's balances by currency.
type Balances struct {
	Actual map[string]string `json:"actual_balance" example:"RUB:2500.00"`
	Frozen map[string]string `json:"frozen_balance" example:"RUB:0.00"`
} // @name Balances

// Operation is the permanent record of a request; success and error are final.
type Operation struct {
	ID          uuid.UUID     `json:"id"`
	Operation   ledger.Kind   `json:"operation" swaggertype:"string" enums:"create_account,deposit,withdraw,transfer,hold,capture,release,payment,refund"`
	AccountID   uuid.UUID     `json:"account_id"`
	ToAccountID uuid.UUID     `json:"to_account_id,omitzero"`
	OrderID     uuid.UUID     `json:"order_id,omitzero"`
	Reference   string        `json:"reference,omitempty"`
	Description string        `json:"description,omitempty"`
	Amount      string        `json:"amount,omitempty" example:"777.00"`
	Currency    string        `json:"currency,omitempty" example:"RUB"`
	Status      ledger.Status `json:"status" swaggertype:"string" enums:"created,success,error"`
	Reason      ledger.Reason `json:"reason,omitempty" swaggertype:"string"`
	CreatedAt   time.Time     `json:"created_at"`
	SettledAt   time.Time     `json:"settled_at,omitzero"`
} // @name Operation

// Entry is one line of an account's statement: what an operation changed, and the balances after it.
type Entry struct {
	Number       int64     `json:"number" example:"1"`
	OperationID  uuid.UUID `json:"operation_id"`
	Operation    string    `json:"operation" example:"deposit"`
	Currency     string    `json:"currency" example:"RUB"`
	Amount       string    `json:"amount" example:"777.00"`
	Frozen       string    `json:"frozen" example:"0.00"`
	BalanceAfter string    `json:"balance_after" example:"777.00"`
	FrozenAfter  string    `json:"frozen_after" example:"0.00"`
	CreatedAt    time.Time `json:"created_at"`
} // @name Entry

// amount writes minor units of a currency. A currency that is stored but no longer known is a fault of the
// configuration, which must not show money with a wrong number of digits.
func (a *API) amount(currency string, minor int64) (string, error) {
	c, ok := a.currencies.Lookup(currency)
	if !ok {
		return "", fmt.Errorf("%q is no longer among the currencies", currency)
	}
	return c.Format(minor), nil
}

func (a *API) account(account postgres.Account) (Account, error) {
	out := Account{ID: account.ID, Owner: account.Owner, Reference: account.Reference, CreatedAt: account.CreatedAt,
		Balances: make([]Balance, len(account.Balances))}
	for i, b := range account.Balances {
		actual, err := a.amount(b.Currency, b.Actual)
		if err != nil {
			return out, err
		}
		frozen, err := a.amount(b.Currency, b.Frozen)
		if err != nil {
			return out, err
		}
		out.Balances[i] = Balance{b.Currency, actual, frozen}
	}
	return out, nil
}

func (a *API) operation(op *ledger.Operation) (Operation, error) {
	out := Operation{
		ID: op.ID, Operation: op.Kind, AccountID: op.AccountID, ToAccountID: op.ToAccountID, OrderID: op.OrderID,
		Reference: op.Reference, Description: op.Description, Currency: op.Currency, Status: op.Status, Reason: op.Reason,
		CreatedAt: op.CreatedAt, SettledAt: op.SettledAt,
	}
	if op.Currency == "" {
		return out, nil
	}
	var err error
	out.Amount, err = a.amount(op.Currency, op.Amount)
	return out, err
}

func (a *API) entry(e postgres.Entry) (Entry, error) {
	c, ok := a.currencies.Lookup(e.Currency)
	if !ok {
		return Entry{}, fmt.Errorf("%q is no longer among the currencies", e.Currency)
	}
	return Entry{
		Number: e.Number, OperationID: e.OperationID, Operation: e.Operation, Currency: e.Currency, Amount: c.Format(e.Amount),
		Frozen: c.Format(e.Frozen), BalanceAfter: c.Format(e.BalanceAfter), FrozenAfter: c.Format(e.FrozenAfter), CreatedAt: e.CreatedAt,
	}, nil
}

func (a *API) payment(p ledger.OrderPayment) (contract.Payment, error) {
	return settlement.PaymentState(a.currencies, p)
}
