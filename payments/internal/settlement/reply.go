package settlement

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/wire"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/outbox"
)

// Reply says how a command over the broker is answered. It travels with the request, which does not read it.
type Reply struct {
	Topic     string    `json:"topic"`
	CommandID uuid.UUID `json:"command_id"`
	Operation string    `json:"operation"` // as the command named it

	// Why the command is refused, where it is.
	Code   int    `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}

func (r Reply) encode() json.RawMessage {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // texts and IDs can always be encoded
	}
	return text
}

// replyTo says how a request is to be answered that has a Reply.
func replyTo(r ledger.Request) (how Reply, err error) {
	if err = json.Unmarshal(r.Reply, &how); err != nil {
		err = fmt.Errorf("decode how to reply to %s: %w", r.ID, err)
	}
	return how, err
}

// reply answers a command of the broker: with its operation, which is the stored one for a repeated command, or, for a
// query, with the balances at this point of the account's queue. It also returns the reply's code.
func (s *Settlement) reply(book *ledger.Book, r ledger.Request, op *ledger.Operation) (outbox.Message, int, error) {
	how, err := replyTo(r)
	if err != nil {
		return outbox.Message{}, 0, err
	}
	reply := contract.Reply{Operation: how.Operation}
	if how.CommandID != uuid.Nil {
		reply.CommandID = &how.CommandID
	}
	if err := s.fill(&reply, how, book, r, op); err != nil {
		return outbox.Message{}, 0, err
	}
	payload, err := json.Marshal(reply)
	if err != nil {
		return outbox.Message{}, 0, fmt.Errorf("encode the reply to %s: %w", r.ID, err)
	}
	// The refusal of another request under the same ID is another message: taken for the same, it would hide the reply that a
	// command which waits gets later.
	replied := r.ID
	if op != nil && op.Fingerprint != r.Fingerprint {
		replied = r.Fingerprint.UUID
	}
	return outbox.Message{
		Lane: r.Lane, ID: contract.EventID(contract.ReplyType, replied, 1), Type: contract.ReplyType, Topic: how.Topic,
		Key: r.AccountID.String(), Subject: r.ID.String(), Payload: string(payload), Traceparent: r.Traceparent,
	}, reply.Code, nil
}

func (s *Settlement) fill(reply *contract.Reply, how Reply, book *ledger.Book, r ledger.Request, op *ledger.Operation) (err error) {
	refuse := func(code int, reason string) {
		reply.Code, reply.Status, reply.Reason = code, string(ledger.Error), reason
	}
	cancel, cancels := r.Command.(ledger.CancelOperation)
	switch {
	case r.Discarded && op == nil:
		refuse(http.StatusUnprocessableEntity, string(ledger.Discarded))
	case r.Kind() == ledger.KindRefusal:
		refuse(how.Code, how.Reason)
		reply.Detail = how.Detail
	case r.Kind() == ledger.KindBalanceQuery:
		if _, ok := book.Account(r.AccountID); !ok {
			refuse(http.StatusNotFound, string(ledger.AccountNotFound))
			return nil
		}
		reply.Code, reply.Status = http.StatusOK, string(ledger.Success)
		reply.Body, err = s.balances(book.Balances(r.AccountID))
	case op.Fingerprint != r.Fingerprint:
		refuse(http.StatusUnprocessableEntity, "idempotency_key_reused")
	case op.Status == ledger.Error:
		refuse(wire.Code(op), string(op.Reason))
		if reply.OperationID = &op.ID; cancels {
			reply.OperationID = &cancel.OperationID
		}
	case cancels:
		reply.Code, reply.Status, reply.OperationID = wire.Code(op), string(op.Status), &cancel.OperationID
		if ended, ok := book.Operation(cancel.OperationID); ok {
			reply.Body, err = wire.Operation(s.currencies, ended)
		}
	default:
		reply.Code, reply.Status, reply.OperationID = wire.Code(op), string(op.Status), &op.ID
		if account, ok := book.Account(op.AccountID); ok && op.Kind == ledger.KindCreateAccount {
			reply.Body = wire.Account(account)
		} else {
			reply.Body, err = wire.Operation(s.currencies, op)
		}
	}
	return err
}

func (s *Settlement) balances(balances map[string]ledger.Balance) (contract.Balances, error) {
	list := make([]contract.Balance, 0, len(balances))
	for code, b := range balances {
		balance, err := wire.Balance(s.currencies, code, b.Actual, b.Frozen)
		if err != nil {
			return contract.Balances{}, err
		}
		list = append(list, balance)
	}
	slices.SortFunc(list, func(a, b contract.Balance) int { return strings.Compare(a.Currency, b.Currency) })
	return wire.Balances(list), nil
}
