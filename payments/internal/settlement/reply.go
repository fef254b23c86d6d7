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

// reply answers a command of the broker: with its operation, which is the stored one for a repeated command, or, for a
// question, with the balances at this point of the account's queue. It also returns the reply's code.
func (s *Settlement) reply(book *ledger.Book, r ledger.Request, op *ledger.Operation) (outbox.Message, int, error) {
	reply := contract.Reply{Operation: r.Reply.Operation}
	if r.Reply.CommandID != uuid.Nil {
		reply.CommandID = &r.Reply.CommandID
	}
	if err := s.fill(&reply, book, r, op); err != nil {
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
		Lane: r.Lane, ID: contract.EventID(contract.ReplyType, replied, 1), Type: contract.ReplyType, Topic: r.Reply.Topic,
		Key: r.AccountID.String(), Subject: r.ID.String(), Payload: string(payload), Traceparent: r.Traceparent,
	}, reply.Code, nil
}

func (s *Settlement) fill(reply *contract.Reply, book *ledger.Book, r ledger.Request, op *ledger.Operation) (err error) {
	refuse := func(code int, reason string) {
		reply.Code, reply.Status, reply.Reason = code, string(ledger.Error), reason
	}
	switch {
	case r.Discarded && op == nil:
		refuse(http.StatusUnprocessableEntity, string(ledger.Discarded))
	case r.Kind == ledger.Refusal:
		refuse(r.Reply.Code, r.Reply.Reason)
		reply.Detail = r.Reply.Detail
	case r.Kind == ledger.Question:
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
		if reply.OperationID = &op.ID; r.Kind == ledger.CancelOperation {
			reply.OperationID = &r.OperationID
		}
	case r.Kind == ledger.CancelOperation:
		reply.Code, reply.Status, reply.OperationID = wire.Code(op), string(op.Status), &r.OperationID
		if ended, ok := book.Operation(r.OperationID); ok {
			reply.Body, err = wire.Operation(s.currencies, ended)
		}
	default:
		reply.Code, reply.Status, reply.OperationID = wire.Code(op), string(op.Status), &op.ID
		if account, ok := book.Account(op.AccountID); ok && op.Kind == ledger.CreateAccount {
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
