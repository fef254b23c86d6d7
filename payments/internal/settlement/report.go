package settlement

import (
	"log/slog"
	"slices"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// report logs what did not go as it was asked for: what ended in error, what could not be understood, holds whose time
// was over, and payments that were told again. What succeeds leaves no line.
func (s *Settlement) report(
	requests []ledger.Request, ended, expired []*ledger.Operation, repeated []ledger.OrderPayment) {
	failed := slices.DeleteFunc(slices.Clone(ended), func(op *ledger.Operation) bool { return op.Status != ledger.Error })
	each := func(message, key string, n int, item func(i int) (id string, attributes []any)) {
		telemetry.LogEach(s.log, slog.LevelInfo, message, key, n, item)
	}
	each("operation ended in error", "operation_id", len(failed), func(i int) (string, []any) {
		op := failed[i]
		id := op.ID
		if op.Kind == ledger.KindCancelOperation { // nobody sees it, only the operation that it is about
			at := slices.IndexFunc(requests, func(r ledger.Request) bool { return r.ID == op.ID })
			id = requests[at].References().Operation
		}
		return id.String(), append([]any{"operation", op.Kind, "reason", op.Reason, "account_id", op.AccountID},
			named("order_id", op.OrderID, "hold_id", op.HoldID, "command_id", op.CommandID)...)
	})
	each("hold expired", "hold_id", len(expired), func(i int) (string, []any) {
		op := expired[i]
		return op.HoldID.String(), append([]any{"account_id", op.AccountID}, named("order_id", op.OrderID)...)
	})
	var refused []billing.ReplyTo
	for _, r := range requests {
		if r.Kind() != ledger.KindRefusal || r.Reply == nil {
			continue
		}
		if how, err := billing.ReplyToOf(r); err == nil {
			refused = append(refused, how)
		}
	}
	each("command refused", "command_id", len(refused), func(i int) (string, []any) {
		r := refused[i]
		return r.CommandID.String(), []any{"operation", r.Operation, "reason", r.Reason, "detail", r.Detail}
	})
	each("payment told again", "order_id", len(repeated), func(i int) (string, []any) {
		p := repeated[i]
		return p.OrderID.String(), []any{"account_id", p.AccountID, "status", p.Status, "version", p.Version}
	})
}

// Describe names what a message is about, for the log.
func Describe(m postgres.Message) []any {
	refs, op := m.Body.References(), m.Body.Operation()
	if op == nil {
		return named("order_id", refs.Order)
	}
	return named("order_id", op.OrderID, "hold_id", op.HoldID, "operation_id", refs.Operation)
}

// named are those of the pairs of a key and an ID that have an ID.
func named(pairs ...any) (attributes []any) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if id, ok := pairs[i+1].(uuid.UUID); ok && id != uuid.Nil {
			attributes = append(attributes, pairs[i], id)
		}
	}
	return attributes
}
