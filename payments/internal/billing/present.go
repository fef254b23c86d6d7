package billing

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/outbox"
)

// Presenter puts what the ledger knows into the forms of the contract, with amounts as decimal texts. A stored currency
// that is no longer known is a fault of the configuration and an error: no answer is better than one with a wrong
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

// Operation is an operation's record. It says who asked for it and with which key if by covers that subject: who is
// restricted to an owner learns of no other subject.
func (p Presenter) Operation(op *ledger.Operation, by identity.Reach) (contract.Operation, error) {
	out := contract.Operation{
		ID: op.ID, Operation: string(op.Kind), AccountID: op.AccountID, ToAccountID: op.ToAccountID, HoldID: op.HoldID,
		OrderID: op.OrderID, CommandID: op.CommandID, Reference: op.Reference, Description: op.Description, Note: op.Note,
		Currency: op.Currency, Status: string(op.Status), Reason: string(op.Reason),
		CreatedAt: contract.Time(op.CreatedAt), SettledAt: contract.Time(op.SettledAt),
	}
	if by.Covers(op.Tenant, op.Subject) {
		out.Subject, out.IdempotencyKey = op.Subject, op.Key
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

// ReplyTo says how to answer a command of the broker. It is stored with the request; the ledger does not read it.
type ReplyTo struct {
	Topic     string    `json:"topic"`
	CommandID uuid.UUID `json:"command_id"`
	Operation string    `json:"operation"` // as the command named it

	// Why the command is refused, where it is.
	Code   int    `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// maxDetail bounds the detail of a reply, in bytes: it may repeat a command, which may be as large as a message can be.
const maxDetail = 500

// Encode writes it as it travels with the request.
func (r ReplyTo) Encode() json.RawMessage {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // texts and IDs can always be encoded
	}
	return text
}

// ReplyToOf reads the ReplyTo of a request that has a Reply.
func ReplyToOf(r ledger.Request) (how ReplyTo, err error) {
	if err = json.Unmarshal(r.Reply, &how); err != nil {
		err = fmt.Errorf("decode how to reply to %s: %w", r.ID, err)
	}
	return how, err
}

// Reply answers a command of the broker: with its operation, which is the stored one for a repeated command, or, for a
// query, with the balances at this point of the account's queue. It also returns the reply's code.
func (p Presenter) Reply(book *ledger.Book, r ledger.Request, op *ledger.Operation) (outbox.Message, int, error) {
	how, err := ReplyToOf(r)
	if err != nil {
		return outbox.Message{}, 0, err
	}
	reply := contract.Reply{Operation: how.Operation}
	if how.CommandID != uuid.Nil {
		reply.CommandID = &how.CommandID
	}
	if err := p.fill(&reply, how, book, r, op); err != nil {
		return outbox.Message{}, 0, err
	}
	payload, err := json.Marshal(reply)
	if err != nil {
		return outbox.Message{}, 0, fmt.Errorf("encode the reply to %s: %w", r.ID, err)
	}
	// The refusal of another request under the same ID is a message of its own: with the same ID it would hide the reply
	// that a waiting command gets later.
	replied := r.ID
	if op != nil && op.Fingerprint != r.Fingerprint {
		replied = r.Fingerprint.UUID
	}
	return outbox.Message{
		Lane: r.Lane, Tenant: r.By.Tenant, ID: contract.EventID(contract.ReplyType, replied, 1), Type: contract.ReplyType,
		Topic: how.Topic,
		Key:   r.AccountID.String(), Subject: r.ID.String(), Payload: string(payload), Traceparent: r.Traceparent,
	}, reply.Code, nil
}

// fill says in a reply what became of a request.
func (p Presenter) fill(reply *contract.Reply, how ReplyTo, book *ledger.Book, r ledger.Request,
	op *ledger.Operation) (err error) {
	refuse := func(code int, reason string) {
		reply.Code, reply.Status, reply.Reason = code, string(ledger.Error), reason
	}
	cancel, cancels := r.Command.(ledger.CancelOperation)
	own := identity.Reach{Tenant: r.By.Tenant, Owner: r.Subject}
	switch {
	case r.Discarded && op == nil:
		refuse(Status(ledger.Discarded), string(ledger.Discarded))
	case r.Kind() == ledger.KindRefusal:
		refuse(how.Code, how.Reason)
		reply.Detail = how.Detail
	case r.Kind() == ledger.KindBalanceQuery:
		if !book.Reaches(r) {
			refuse(Status(ledger.AccountNotFound), string(ledger.AccountNotFound))
			return nil
		}
		reply.Code, reply.Status = http.StatusOK, string(ledger.Success)
		var balances []postgres.Balance
		for code, b := range book.Balances(r.AccountID) {
			balances = append(balances, postgres.Balance{Key: ledger.Key{Currency: code}, Balance: b})
		}
		reply.Body, err = p.Balances(balances)
	case op.Fingerprint != r.Fingerprint:
		refuse(http.StatusUnprocessableEntity, httpserver.CodeIdempotencyKeyReused)
	case op.Status == ledger.Error:
		refuse(Code(op), string(op.Reason))
		if reply.OperationID = &op.ID; cancels {
			reply.OperationID = &cancel.OperationID
		}
	case cancels:
		reply.Code, reply.Status, reply.OperationID = Code(op), string(op.Status), &cancel.OperationID
		if ended, ok := book.Operation(cancel.OperationID); ok {
			reply.Body, err = p.Operation(ended, own)
		}
	default:
		reply.Code, reply.Status, reply.OperationID = Code(op), string(op.Status), &op.ID
		if account, ok := book.Account(op.AccountID); ok && op.Kind == ledger.KindCreateAccount {
			reply.Body, err = p.Account(postgres.Account{Account: account})
		} else {
			reply.Body, err = p.Operation(op, own)
		}
	}
	return err
}
