package billing

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
)

// Bounds of expires_in.
const (
	minExpiry = time.Second
	maxExpiry = 365 * 24 * time.Hour // of a hold
)

// Reader makes ledger requests of commands, which are the same whichever way they come in.
type Reader struct {
	currencies *money.Currencies
}

// NewReader returns a reader.
func NewReader(currencies *money.Currencies) Reader { return Reader{currencies} }

// Request makes the request of a command, which still lacks its ID. named has the hold and the operation that the
// command names, if they exist. The error is contract.FieldErrors, or a *Refusal where they do not.
func (r Reader) Request(c contract.Command, named postgres.Named) (ledger.Request, error) {
	if err := canonical(&c); err != nil {
		return ledger.Request{}, err
	}
	for _, text := range []struct {
		field, value string
		limit        int
	}{
		{"owner", c.Owner, contract.MaxOwner}, {"reference", c.Reference, contract.MaxReference},
		{"description", c.Description, contract.MaxDescription}, {"reason", c.Reason, contract.MaxReason},
	} {
		if err := contract.CheckText(text.value, text.limit); err != nil {
			return ledger.Request{}, contract.Invalid(text.field, "%v", err)
		}
	}
	var request ledger.Request
	var err error
	switch ledger.Kind(c.Operation) {
	case ledger.KindCreateAccount:
		request.Command = ledger.CreateAccount{Owner: c.Owner, Reference: c.Reference}
		if err := same(&c.ID, "id", c); err != nil {
			return request, err
		}
		if c.ID != nil {
			if request.AccountID = *c.ID; *c.ID == uuid.Nil || ledger.IsSystem(*c.ID) {
				return request, contract.Invalid("id", "is reserved")
			}
		}
	case ledger.KindCancel: // of an operation; an order is cancelled where it was placed
		cancel := ledger.CancelOperation{Note: c.Reason}
		if err := required(&cancel.OperationID, "operation_id", c.OperationID); err != nil {
			return request, err
		}
		var ok bool
		if request.AccountID, ok = named.Operations[cancel.OperationID]; !ok {
			return request, &Refusal{Reason: ledger.OperationNotFound}
		}
		request.Command = cancel
	case ledger.KindBalanceQuery:
		request.Command = ledger.BalanceQuery{}
		err = required(&request.AccountID, "account_id", c.AccountID)
	case ledger.KindCapture:
		capture := ledger.Capture{Reference: c.Reference, Description: c.Description}
		hold, err := theHold(&capture.HoldID, c, named)
		if err != nil {
			return request, err
		}
		if request.AccountID = hold.AccountID; c.Amount != "" {
			capture.Currency = hold.Currency
			if capture.Amount, err = r.minor(hold.Currency, c.Amount); err != nil {
				return request, err
			}
		}
		request.Command = capture
	case ledger.KindRelease:
		release := ledger.Release{Reference: c.Reference, Description: c.Description}
		hold, err := theHold(&release.HoldID, c, named)
		if err != nil {
			return request, err
		}
		request.AccountID, request.Command = hold.AccountID, release
	case ledger.KindDeposit:
		if err := required(&request.AccountID, "account_id", c.AccountID); err != nil {
			return request, err
		}
		deposit := ledger.Deposit{Currency: c.Currency, Reference: c.Reference, Description: c.Description}
		deposit.Amount, err = r.minor(c.Currency, c.Amount)
		request.Command = deposit
	case ledger.KindWithdrawal:
		if err := required(&request.AccountID, "account_id", c.AccountID); err != nil {
			return request, err
		}
		withdrawal := ledger.Withdrawal{Currency: c.Currency, Reference: c.Reference, Description: c.Description}
		switch c.OnInsufficient {
		case "", contract.OnInsufficientReject:
		case contract.OnInsufficientWait:
			withdrawal.WaitForFunds = true
		default:
			return request, contract.Invalid("on_insufficient",
				"must be %s or %s", contract.OnInsufficientReject, contract.OnInsufficientWait)
		}
		if withdrawal.ExpiresIn, err = expiry(c.ExpiresIn, ledger.MaxFundsExpiry); err != nil {
			return request, err
		}
		withdrawal.Amount, err = r.minor(c.Currency, c.Amount)
		request.Command = withdrawal
	case ledger.KindTransfer:
		if err := same(&c.FromAccountID, "from_account_id", c); err != nil {
			return request, err
		}
		if err := required(&request.AccountID, "from_account_id", c.FromAccountID); err != nil {
			return request, err
		}
		transfer := ledger.Transfer{Currency: c.Currency, Reference: c.Reference, Description: c.Description}
		if err := required(&transfer.ToAccountID, "to_account_id", c.ToAccountID); err != nil {
			return request, err
		}
		transfer.Amount, err = r.minor(c.Currency, c.Amount)
		request.Command = transfer
	case ledger.KindHoldFunds:
		if err := required(&request.AccountID, "account_id", c.AccountID); err != nil {
			return request, err
		}
		hold := ledger.HoldFunds{Currency: c.Currency, Reference: c.Reference, Description: c.Description}
		if hold.ExpiresIn, err = expiry(c.ExpiresIn, maxExpiry); err != nil {
			return request, err
		}
		hold.Amount, err = r.minor(c.Currency, c.Amount)
		request.Command = hold
	default:
		return request, contract.Invalid("operation", "must be one of %s", strings.Join(contract.Operations(), ", "))
	}
	return request, err
}

// minor reads an amount of a currency.
func (r Reader) minor(code string, amount money.Decimal) (int64, error) {
	currency, ok := r.currencies.Lookup(code)
	if !ok {
		return 0, contract.Invalid("currency", "must be one of the codes that /api/v1/currencies lists, such as RUB")
	}
	minor, err := currency.Parse(string(amount))
	if err != nil {
		return 0, contract.Invalid("amount", "%v", err)
	}
	return minor, nil
}

// expiry reads how long something waits or is held; 0 where that is not said.
func expiry(text string, longest time.Duration) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	expiry, err := time.ParseDuration(text)
	if err != nil || expiry < minExpiry || expiry > longest {
		return 0, contract.Invalid("expires_in",
			"must be a duration from %gs to %gh, such as 15m", minExpiry.Seconds(), longest.Hours())
	}
	return expiry, nil
}

// theHold finds the hold that a command is about.
func theHold(id *uuid.UUID, c contract.Command, named postgres.Named) (postgres.NamedHold, error) {
	if err := required(id, "hold_id", c.HoldID); err != nil {
		return postgres.NamedHold{}, err
	}
	hold, ok := named.Holds[*id]
	if !ok {
		return hold, &Refusal{Reason: ledger.HoldNotFound}
	}
	return hold, nil
}

// Step makes the ledger request of a step of an order's payment: a Confirm, a Reject or a Refund. account is who pays
// the order, in that currency. An empty amount is the whole. note says why, in the client's words. The request still
// lacks its ID.
func (r Reader) Step(kind ledger.Kind, order, account uuid.UUID, code string, amount money.Decimal,
	note string) (ledger.Request, error) {
	request := ledger.Request{AccountID: account}
	if err := contract.CheckText(note, contract.MaxReason); err != nil {
		return request, contract.Invalid("reason", "%v", err)
	}
	var minor int64
	if amount != "" {
		currency, ok := r.currencies.Lookup(code)
		if !ok {
			return request, fmt.Errorf("%q is stored but no longer among the currencies", code)
		}
		var err error
		if minor, err = currency.Parse(string(amount)); err != nil {
			return request, contract.Invalid("amount", "%v", err)
		}
	}
	switch kind {
	case ledger.KindConfirm:
		request.Command = ledger.Confirm{OrderID: order, Amount: minor}
	case ledger.KindReject:
		request.Command = ledger.Reject{OrderID: order, Note: note}
	case ledger.KindRefund:
		request.Command = ledger.Refund{OrderID: order, Amount: minor, Note: note}
	default:
		return request, fmt.Errorf("%q is no step of a payment", kind)
	}
	return request, nil
}

// canonical puts the other names of operations and fields in their place. The same thing may not be said twice.
func canonical(c *contract.Command) error {
	if c.Operation == contract.Invoice {
		c.Operation = string(ledger.KindDeposit)
	}
	if c.WalletID != nil {
		if c.AccountID != nil {
			return contract.Invalid("wallet_id", "is another name of account_id, which is there too")
		}
		c.AccountID = c.WalletID
	}
	if c.Ticker != "" {
		if c.Currency != "" {
			return contract.Invalid("ticker", "is another name of currency, which is there too")
		}
		c.Currency = c.Ticker
	}
	if c.OrderID != "" {
		if c.Reference != "" {
			return contract.Invalid("orderID", "is another name of reference, which is there too")
		}
		c.Reference = c.OrderID
	}
	return nil
}

// same lets account_id stand for the field of that name. Both may be there when they are equal.
func same(to **uuid.UUID, field string, c contract.Command) error {
	if *to != nil && c.AccountID != nil && **to != *c.AccountID {
		name := "account_id"
		if c.WalletID != nil {
			name = "wallet_id"
		}
		return contract.Invalid(name, "is another name of %s, which is another one", field)
	}
	if *to == nil {
		*to = c.AccountID
	}
	return nil
}

func required(to *uuid.UUID, field string, from *uuid.UUID) error {
	if from == nil || *from == uuid.Nil {
		return contract.Invalid(field, "is required")
	}
	*to = *from
	return nil
}
