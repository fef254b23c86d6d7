package billing

import (
	"fmt"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
)

// Presenter puts what the ledger knows into the contract's forms, with amounts as decimal texts. A currency that is
// stored and no longer known is a fault of the configuration, and an error: better no answer than one with a wrong
// number of digits.
type Presenter struct{ currencies *money.Currencies }

// NewPresenter returns a presenter.
func NewPresenter(currencies *money.Currencies) Presenter { return Presenter{currencies} }

// Currency finds a currency that is stored.
func (p Presenter) Currency(code string) (money.Currency, error) {
	currency, ok := p.currencies.Stored(code)
	if !ok {
		return currency, fmt.Errorf("%q is stored but no longer among the currencies", code)
	}
	return currency, nil
}

// Operation is an operation's record.
func (p Presenter) Operation(op *ledger.Operation) (contract.Operation, error) {
	out := contract.Operation{
		ID: op.ID, Operation: string(op.Kind), AccountID: op.AccountID, ToAccountID: op.ToAccountID, HoldID: op.HoldID,
		OrderID: op.OrderID, CommandID: op.CommandID, Reference: op.Reference, Description: op.Description, Note: op.Note,
		Currency: op.Currency, Status: string(op.Status), Reason: string(op.Reason),
		CreatedAt: contract.Time(op.CreatedAt), SettledAt: contract.Time(op.SettledAt),
	}
	if op.Currency == "" {
		return out, nil
	}
	currency, err := p.Currency(op.Currency)
	if err != nil {
		return out, err
	}
	out.Currency, out.Amount = currency.Code, currency.Format(op.Amount)
	return out, nil
}

// Payment is a payment's whole state.
func (p Presenter) Payment(payment ledger.OrderPayment) (contract.Payment, error) {
	currency, err := p.Currency(payment.Currency)
	if err != nil {
		return contract.Payment{}, err
	}
	return contract.Payment{
		OrderID: payment.OrderID, AccountID: payment.AccountID,
		Amount: currency.Format(payment.Amount), Currency: currency.Code,
		Capture: payment.Capture, Status: payment.Status, Reason: string(payment.Reason), Note: payment.Note,
		CapturedAmount: currency.Format(payment.Captured), RefundedAmount: currency.Format(payment.Refunded),
		Version: payment.Version, CreatedAt: contract.Time(payment.CreatedAt), UpdatedAt: contract.Time(payment.UpdatedAt),
	}, nil
}

// Account is an account with its balances.
func (p Presenter) Account(a postgres.Account) (contract.Account, error) {
	out := contract.Account{
		ID: a.ID, Owner: a.Owner, Reference: a.Reference, CreatedAt: contract.Time(a.CreatedAt),
		Balances: make([]contract.Balance, len(a.Balances)),
	}
	for i, b := range a.Balances {
		currency, err := p.Currency(b.Currency)
		if err != nil {
			return out, err
		}
		out.Balances[i] = contract.Balance{
			Currency: currency.Code, Actual: currency.Format(b.Actual), Frozen: currency.Format(b.Frozen),
		}
	}
	return out, nil
}

// Balances are an account's balances by currency.
func (p Presenter) Balances(of []postgres.Balance) (contract.Balances, error) {
	out := contract.Balances{Actual: make(map[string]string, len(of)), Frozen: make(map[string]string, len(of))}
	for _, b := range of {
		currency, err := p.Currency(b.Currency)
		if err != nil {
			return out, err
		}
		out.Actual[currency.Code], out.Frozen[currency.Code] = currency.Format(b.Actual), currency.Format(b.Frozen)
	}
	return out, nil
}
