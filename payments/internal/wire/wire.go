// Package wire puts what the ledger knows into the form in which the outside sees it: amounts as decimal texts with
// their currency's digits.
package wire

import (
	"fmt"
	"net/http"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
)

// Amount writes minor units of a currency. A currency that is stored but no longer known is a fault of the configuration:
// better no answer than one with a wrong number of digits.
func Amount(currencies *money.Currencies, code string, minor int64) (string, error) {
	currency, ok := currencies.Stored(code)
	if !ok {
		return "", fmt.Errorf("%q is stored but no longer among the currencies", code)
	}
	return currency.Format(minor), nil
}

// Operation is an operation's record.
func Operation(currencies *money.Currencies, op *ledger.Operation) (contract.Operation, error) {
	out := contract.Operation{
		ID: op.ID, Operation: string(op.Kind), AccountID: op.AccountID, ToAccountID: op.ToAccountID, HoldID: op.HoldID,
		OrderID: op.OrderID, CommandID: op.CommandID, Reference: op.Reference, Description: op.Description, Note: op.Note,
		Currency: op.Currency, Status: string(op.Status), Reason: string(op.Reason),
		CreatedAt: contract.Time(op.CreatedAt), SettledAt: contract.Time(op.SettledAt),
	}
	if op.Currency == "" {
		return out, nil
	}
	currency, ok := currencies.Stored(op.Currency)
	if !ok {
		return out, fmt.Errorf("%q is stored but no longer among the currencies", op.Currency)
	}
	out.Currency, out.Amount = currency.Code, currency.Format(op.Amount)
	return out, nil
}

// Payment is a payment's whole state.
func Payment(currencies *money.Currencies, p ledger.OrderPayment) (contract.Payment, error) {
	currency, ok := currencies.Stored(p.Currency)
	if !ok {
		return contract.Payment{}, fmt.Errorf("%q is stored but no longer among the currencies", p.Currency)
	}
	return contract.Payment{
		OrderID: p.OrderID, AccountID: p.AccountID, Amount: currency.Format(p.Amount), Currency: currency.Code,
		Capture: p.Capture, Status: p.Status, Reason: string(p.Reason), Note: p.Note, CapturedAmount: currency.Format(p.Captured),
		RefundedAmount: currency.Format(p.Refunded), Version: p.Version,
		CreatedAt: contract.Time(p.CreatedAt), UpdatedAt: contract.Time(p.UpdatedAt),
	}, nil
}

// Balance is what an account has of one currency.
func Balance(currencies *money.Currencies, code string, actual, frozen int64) (contract.Balance, error) {
	currency, ok := currencies.Lookup(code)
	if !ok {
		return contract.Balance{}, fmt.Errorf("%q is stored but no longer among the currencies", code)
	}
	return contract.Balance{Currency: code, Actual: currency.Format(actual), Frozen: currency.Format(frozen)}, nil
}

// Balances are an account's balances by currency.
func Balances(balances []contract.Balance) contract.Balances {
	out := contract.Balances{Actual: make(map[string]string, len(balances)), Frozen: make(map[string]string, len(balances))}
	for _, b := range balances {
		out.Actual[b.Currency], out.Frozen[b.Currency] = b.Actual, b.Frozen
	}
	return out
}

// Account is an account without money, as it was opened.
func Account(a ledger.Account) contract.Account {
	return contract.Account{ID: a.ID, Owner: a.Owner, Reference: a.Reference, CreatedAt: contract.Time(a.CreatedAt), Balances: []contract.Balance{}}
}

// Code is the HTTP status of an operation's outcome, which is the code of a reply too.
func Code(op *ledger.Operation) int {
	switch {
	case op.Status == ledger.Created:
		return http.StatusAccepted
	case op.Status == ledger.Success && op.Kind == ledger.KindCancelOperation:
		return http.StatusOK // nothing is new
	case op.Status == ledger.Success:
		return http.StatusCreated
	case op.Reason == ledger.AccountNotFound, op.Reason == ledger.HoldNotFound, op.Reason == ledger.PaymentNotFound,
		op.Reason == ledger.OperationNotFound:
		return http.StatusNotFound
	}
	return http.StatusUnprocessableEntity
}
