package api

import (
	"net/http"
	"strconv"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

// maxBatch bounds the operations of one batch.
const maxBatch = 1000

// Batch asks for many operations at once, each as a command of the broker.
type Batch struct {
	Operations []contract.Command `json:"operations" minItems:"1" maxItems:"1000"`
} // @name Batch

// BatchResult is what became of the items of a batch, in their order.
type BatchResult struct {
	Items []BatchItem `json:"items"`
} // @name BatchResult

// BatchItem is what became of one item: the operation, or the problem.
type BatchItem struct {
	Index     int                 `json:"index"`
	Operation *contract.Operation `json:"operation,omitempty"`
	Problem   *httpserver.Problem `json:"problem,omitempty"`
} // @name BatchItem

// batch runs many operations at once.
//
//	@ID				runOperations
//	@Summary		Run up to 1000 operations at once
//	@Description	Each item is a command as on the topic billing.commands (but for balance), with a result of its own: the operation,
//	@Description	or the problem. Items of one account take effect in their order. An Idempotency-Key covers the whole batch: with the same
//	@Description	body it answers with the same operations in their present state and Idempotent-Replayed: true, and does what a crash has
//	@Description	left undone; with any other body nothing happens. A command_id makes an item repeatable by itself, in whichever batch it
//	@Description	comes. An item of which it is not known whether it was accepted has the problem outcome_unknown, whose location is where
//	@Description	the operation is then.
//	@Description
//	@Description	Beside operation and command_id, an item has the fields of its operation, and no others:
//	@Description	- create_account: id, account_id, wallet_id, owner, reference, orderID
//	@Description	- deposit: account_id, wallet_id, amount, currency, ticker, reference, orderID, description
//	@Description	- invoice: account_id, wallet_id, amount, currency, ticker, reference, orderID, description
//	@Description	- withdraw: account_id, wallet_id, amount, currency, ticker, on_insufficient, expires_in, reference, orderID, description
//	@Description	- transfer: from_account_id, account_id, wallet_id, to_account_id, amount, currency, ticker, reference, orderID, description
//	@Description	- hold: account_id, wallet_id, amount, currency, ticker, expires_in, reference, orderID, description
//	@Description	- capture: hold_id, amount, reference, orderID, description
//	@Description	- release: hold_id, reference, orderID, description
//	@Description	- cancel: operation_id, reason
//	@Tags			operations
//	@Param			request			body		Batch	true	"the operations"
//	@Param			Idempotency-Key	header		string	false	"1–255 characters; the same key with the same body is the same batch"
//	@Param			wait			query		string	false	"wait so long for the results, at most 30s; default 5s"	example(5s)
//	@Success		200				{object}	BatchResult
//	@Header			200				{string}	Idempotent-Replayed	"true when the same batch came with this key before"
//	@Failure		422				{object}	httpserver.Problem	"idempotency_key_reused"
//	@Router			/api/v1/operations/batch [post]
func (a *API) batch(w http.ResponseWriter, r *http.Request) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	var body Batch
	if err := httpserver.DecodeJSON(w, r, &body); err != nil {
		return err
	}
	if len(body.Operations) < 1 || len(body.Operations) > maxBatch {
		return contract.Invalid("operations", "must have 1 to 1000 items")
	}
	results, replayed, err := a.billing.SubmitAll(r.Context(), body.Operations, call)
	tellReplayed(w, replayed)
	if err != nil {
		return err
	}
	answer := BatchResult{Items: make([]BatchItem, len(results))}
	for i := range results {
		result, item := &results[i], &answer.Items[i]
		if item.Index = i; result.Err == nil {
			item.Operation = &result.Operation
			continue
		}
		err := contract.Within("operations["+strconv.Itoa(i)+"].", result.Err)
		if item.Problem = billing.Problem(err); item.Problem == nil {
			return err
		}
	}
	return httpserver.WriteJSON(w, http.StatusOK, answer)
}
