package api

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// CancelOperation asks for an operation to be ended that has not taken effect.
type CancelOperation struct {
	Reason string `json:"reason,omitempty" example:"no longer needed" maxLength:"200"` // it becomes the operation's note
} // @name CancelOperation

// cancel ends an operation that has not taken effect.
//
//	@ID				cancelOperation
//	@Summary		Cancel an operation that is created: what waits for money waits no longer
//	@Description	It ends in error, with the reason cancelled; what waited behind it goes on. A cancellation takes its place in the account's
//	@Description	queue: what is ahead of it there, takes effect first. The payment of an order is cancelled with its order.
//	@Tags			operations
//	@Accept			json
//	@Produce		json
//	@Param			id				path		string			true	"ID of the operation"	format(uuid)
//	@Param			request			body		CancelOperation	false	"why; it is kept as the operation's note"
//	@Param			Idempotency-Key	header		string			false	"1–255 characters; the same key with the same request is the same cancellation"
//	@Param			wait			query		string			false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		200				{object}	contract.Operation
//	@Header			200				{string}	Location			"where it is"
//	@Success		202				{object}	contract.Operation	"not settled yet; Location names the operation"
//	@Failure		400				{object}	httpserver.Problem
//	@Failure		404				{object}	httpserver.Problem	"operation_not_found"
//	@Failure		413				{object}	httpserver.Problem
//	@Failure		415				{object}	httpserver.Problem
//	@Failure		422				{object}	httpserver.Problem	"operation_final, operation_of_order, idempotency_key_reused"
//	@Failure		503				{object}	httpserver.Problem	"unavailable, overloaded, or outcome_unknown: Location names the operation"
//	@Router			/api/v1/operations/{id}/cancel [post]
func (a *API) cancel(w http.ResponseWriter, r *http.Request) error {
	id, err := httpserver.PathUUID(r, "id")
	if err != nil {
		return err
	}
	var body CancelOperation
	if err := httpserver.DecodeOptionalJSON(w, r, &body); err != nil {
		return err
	}
	return a.command(w, r, contract.Command{Operation: string(ledger.Cancel), OperationID: &id, Reason: body.Reason}, nil)
}

// shown is the operation that clients see of a request: of a cancellation the one that it ends.
func shown(r ledger.Request) uuid.UUID {
	if r.Kind == ledger.CancelOperation {
		return r.OperationID
	}
	return r.ID
}

// shown are the operations that clients see of results, as they are now. Where one cannot be read, its result gets the error.
func (a *API) shown(ctx context.Context, requests []ledger.Request, results []result) []*ledger.Operation {
	operations := make([]*ledger.Operation, len(results))
	var named []uuid.UUID
	for i, r := range requests {
		if operations[i] = results[i].operation; r.Kind == ledger.CancelOperation && results[i].err == nil {
			named = append(named, r.OperationID)
		}
	}
	if len(named) == 0 {
		return operations
	}
	reading, cancel := pg.Detached(ctx)
	defer cancel()
	settled, err := a.store.Settled(reading, named)
	for i, r := range requests {
		if r.Kind != ledger.CancelOperation || results[i].err != nil {
			continue
		}
		operations[i] = settled[r.OperationID]
		wrong := err
		if wrong == nil && operations[i] == nil { // both wait behind something else
			operations[i], wrong = a.door.operation(ctx, r.OperationID)
		}
		if wrong != nil {
			results[i].err = outcomeUnknown(ctx, r.OperationID, wrong)
		}
	}
	return operations
}

// refusal is the problem of a request whose operation ended in error.
func refusal(r ledger.Request, op *ledger.Operation) *httpserver.Problem {
	p := failure(op)
	p.OperationID = shown(r).String()
	return p
}
