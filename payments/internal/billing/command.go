package billing

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
)

// Bounds of expires_in.
const (
	minExpiry = time.Second
	maxExpiry = 365 * 24 * time.Hour // of a hold
)

// Read turns a command into a request of the ledger, whichever way it came in; the request has no ID yet. named has the
// hold and the operation that the command names, if they exist. The error is one of package identity if the client may
// not ask for this, contract.FieldErrors if the command is not valid, or a *Refusal if the client does not reach what
// the command names.
func Read(c contract.Command, who identity.Identity, named postgres.Named, currencies *money.Currencies) (
	ledger.Request, error) {
	if err := canonical(&c); err != nil {
		return ledger.Request{}, err
	}
	by, err := reach(who, c)
	if err != nil {
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
	f := fields{c, by, named, currencies, nil}
	request := ledger.Request{By: by, Subject: who.Subject}
	switch ledger.Kind(c.Operation) {
	case ledger.KindCreateAccount:
		request.Command = ledger.CreateAccount{Owner: f.owner(), Reference: c.Reference}
		if id := f.same("id", c.ID); id != nil {
			if request.AccountID = *id; *id == uuid.Nil || ledger.IsSystem(*id) {
				f.wrong("id", "is reserved")
			}
		}
	case ledger.KindDeposit:
		request.AccountID = f.id("account_id", c.AccountID)
		request.Command = ledger.Deposit{
			Currency: c.Currency, Amount: f.amount(c.Currency), Reference: c.Reference, Description: c.Description,
		}
	case ledger.KindWithdrawal:
		request.AccountID = f.id("account_id", c.AccountID)
		request.Command = ledger.Withdrawal{
			WaitForFunds: f.waits(), ExpiresIn: f.expiry(ledger.MaxFundsExpiry),
			Currency: c.Currency, Amount: f.amount(c.Currency), Reference: c.Reference, Description: c.Description,
		}
	case ledger.KindTransfer:
		request.AccountID = f.id("from_account_id", f.same("from_account_id", c.FromAccountID))
		request.Command = ledger.Transfer{
			ToAccountID: f.id("to_account_id", c.ToAccountID),
			Currency:    c.Currency, Amount: f.amount(c.Currency), Reference: c.Reference, Description: c.Description,
		}
	case ledger.KindHoldFunds:
		request.AccountID = f.id("account_id", c.AccountID)
		request.Command = ledger.HoldFunds{
			ExpiresIn: f.expiry(maxExpiry),
			Currency:  c.Currency, Amount: f.amount(c.Currency), Reference: c.Reference, Description: c.Description,
		}
	case ledger.KindCapture:
		hold := f.hold()
		capture := ledger.Capture{HoldID: f.id("hold_id", c.HoldID), Reference: c.Reference, Description: c.Description}
		if c.Amount != "" {
			capture.Currency, capture.Amount = hold.Currency, f.amount(hold.Currency)
		}
		request.AccountID, request.Command = hold.AccountID, capture
	case ledger.KindRelease:
		request.AccountID = f.hold().AccountID
		request.Command = ledger.Release{
			HoldID: f.id("hold_id", c.HoldID), Reference: c.Reference, Description: c.Description,
		}
	case ledger.KindCancel: // of an operation; an order is cancelled where it was placed
		cancel := ledger.CancelOperation{OperationID: f.id("operation_id", c.OperationID), Note: c.Reason}
		operation, ok := named.Operations[cancel.OperationID]
		if !ok || !by.Covers(operation.Tenant, operation.Owner) {
			operation = postgres.NamedRecord{}
			f.fail(&Refusal{Reason: ledger.OperationNotFound})
		}
		request.AccountID, request.Command = operation.AccountID, cancel
	case ledger.KindBalanceQuery:
		request.AccountID, request.Command = f.id("account_id", c.AccountID), ledger.BalanceQuery{}
	default:
		f.wrong("operation", "must be one of %s", strings.Join(contract.Operations(), ", "))
	}
	return request, f.err
}

// reach is what the client may touch by a command, in its canonical form; nothing if there is no such operation.
func reach(who identity.Identity, c contract.Command) (identity.Reach, error) {
	kind := ledger.Kind(c.Operation)
	if kind == ledger.KindCancel {
		kind = ledger.KindCancelOperation
	}
	if !slices.Contains(contract.Operations(), c.Operation) {
		return identity.Reach{}, nil
	}
	return who.Reach(Scope(kind))
}

// fields reads the fields of a command. Its error is about the first one that is wrong.
type fields struct {
	command    contract.Command
	by         identity.Reach
	named      postgres.Named
	currencies *money.Currencies
	err        error
}

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *fields) wrong(field, format string, args ...any) {
	f.fail(contract.Invalid(field, format, args...))
}

// id reads an ID that must be there.
func (f *fields) id(field string, id *uuid.UUID) uuid.UUID {
	if id == nil || *id == uuid.Nil {
		f.wrong(field, "is required")
		return uuid.Nil
	}
	return *id
}

// same reads an ID that may also be given as account_id. Both may be given if they are equal.
func (f *fields) same(field string, id *uuid.UUID) *uuid.UUID {
	account := f.command.AccountID
	if id == nil || account == nil {
		return cmp.Or(id, account)
	}
	if *id != *account {
		name := "account_id"
		if f.command.WalletID != nil {
			name = "wallet_id"
		}
		f.wrong(name, "is another name of %s, which is another one", field)
		return nil
	}
	return id
}

// hold finds the hold that the command is about.
func (f *fields) hold() postgres.NamedRecord {
	hold, ok := f.named.Holds[f.id("hold_id", f.command.HoldID)]
	if !ok || !f.by.Covers(hold.Tenant, hold.Owner) {
		f.fail(&Refusal{Reason: ledger.HoldNotFound})
		return postgres.NamedRecord{}
	}
	return hold
}

// owner reads the owner of a new account. A client that may only open accounts of its own need not give it.
func (f *fields) owner() string {
	if f.by.Owner != "" && f.command.Owner != "" && f.command.Owner != f.by.Owner {
		f.fail(&identity.MissingScope{Scope: Scope(ledger.KindCreateAccount)})
	}
	return cmp.Or(f.command.Owner, f.by.Owner)
}

// amount reads the amount, which is of a currency.
func (f *fields) amount(code string) int64 {
	currency, ok := f.currencies.Lookup(code)
	if !ok {
		f.wrong("currency", "must be one of the codes that /api/v1/currencies lists, such as RUB")
		return 0
	}
	minor, err := currency.Parse(string(f.command.Amount))
	if err != nil {
		f.wrong("amount", "%v", err)
	}
	return minor
}

// waits reads whether the command waits for money that is not there.
func (f *fields) waits() bool {
	how := f.command.OnInsufficient
	if how != "" && how != contract.OnInsufficientReject && how != contract.OnInsufficientWait {
		f.wrong("on_insufficient", "must be %s or %s", contract.OnInsufficientReject, contract.OnInsufficientWait)
	}
	return how == contract.OnInsufficientWait
}

// expiry reads how long something waits or is held; 0 where that is not said.
func (f *fields) expiry(longest time.Duration) time.Duration {
	if f.command.ExpiresIn == "" {
		return 0
	}
	expiry, err := time.ParseDuration(f.command.ExpiresIn)
	if err != nil || expiry < minExpiry || expiry > longest {
		f.wrong("expires_in", "must be a duration from %gs to %gh, such as 15m", minExpiry.Seconds(), longest.Hours())
	}
	return expiry
}

// canonical replaces other names of operations and fields by the usual ones. A command may not say the same thing
// twice.
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

// scopes is the one table of the scopes that commands need, whichever way they come.
var scopes = map[ledger.Kind]identity.Scope{
	ledger.KindCreateAccount:   identity.AccountsWrite,
	ledger.KindDeposit:         identity.MoneyIn,
	ledger.KindWithdrawal:      identity.MoneyOut,
	ledger.KindTransfer:        identity.MoneyOut,
	ledger.KindHoldFunds:       identity.MoneyOut,
	ledger.KindCapture:         identity.MoneyOut,
	ledger.KindRelease:         identity.MoneyOut,
	ledger.KindCancelOperation: identity.MoneyOut,
	ledger.KindBalanceQuery:    identity.AccountsRead,
	ledger.KindConfirm:         identity.PaymentsWrite,
	ledger.KindReject:          identity.PaymentsWrite,
	ledger.KindRefund:          identity.PaymentsWrite,
}

// AnyCommand is the scope that a batch of commands needs. Each of the commands needs its own Scope as well.
var AnyCommand = identity.AnyOf(identity.AccountsWrite, identity.MoneyIn, identity.MoneyOut)

// Scope is the scope that a client needs for a command. For a command that no client may give it is the zero Scope,
// which allows nothing.
func Scope(kind ledger.Kind) identity.Scope { return scopes[kind] }
