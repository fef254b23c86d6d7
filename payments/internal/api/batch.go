package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/command"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/idempotency"
	platform "github.com/altyn-pay/altyn/platform/postgres"
)

// maxBatch bounds the operations of one batch.
const maxBatch = 1000

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
//	@Accept			json
//	@Produce		json
//	@Param			request			body		Batch	true	"the operations"
//	@Param			Idempotency-Key	header		string	false	"1–255 characters; the same key with the same body is the same batch"
//	@Param			wait			query		string	false	"wait so long for the results, at most 30s; default 5s"	example(5s)
//	@Success		200				{object}	BatchResult
//	@Header			200				{string}	Idempotent-Replayed	"true when the same batch came with this key before"
//	@Failure		400				{object}	httpserver.Problem
//	@Failure		413				{object}	httpserver.Problem
//	@Failure		415				{object}	httpserver.Problem
//	@Failure		422				{object}	httpserver.Problem	"idempotency_key_reused"
//	@Failure		503				{object}	httpserver.Problem	"unavailable"
//	@Router			/api/v1/operations/batch [post]
func (a *API) batch(w http.ResponseWriter, r *http.Request) error {
	key, err := httpserver.IdempotencyKey(r)
	if err != nil {
		return err
	}
	patience, err := patienceOf(r)
	if err != nil {
		return err
	}
	var body Batch
	if err := httpserver.DecodeJSON(w, r, &body); err != nil {
		return err
	}
	if len(body.Operations) < 1 || len(body.Operations) > maxBatch {
		return httpserver.Invalid("operations", "must have 1 to 1000 items")
	}
	named, err := a.store.Named(r.Context(), body.Operations...)
	if err != nil {
		return err
	}
	answer := BatchResult{Items: make([]BatchItem, len(body.Operations))}
	requests, indexes := make([]ledger.Request, 0, len(body.Operations)), make([]int, 0, len(body.Operations))
	claim := idempotency.Claim{Makes: make(map[uuid.UUID]uuid.UUID)}
	var accounts []uuid.UUID // of what has no other identity than the batch's key
	for i, c := range body.Operations {
		answer.Items[i].Index = i
		itemKey := ""
		switch {
		case c.CommandID != nil:
			itemKey = c.CommandID.String()
		case key != "":
			itemKey = keyOfItem(key, i)
		}
		request, err := a.reader.Request(c, named)
		if err == nil && request.Kind == ledger.Question {
			err = &command.FieldError{Field: "operation", Detail: "balance is asked by GET /api/v1/accounts/{id}/balance"}
		}
		account := request.AccountID
		if err == nil {
			err = command.Identify(&request, door(r), itemKey)
		}
		if err == nil && key != "" && c.CommandID == nil {
			claim.Makes[request.ID] = request.Fingerprint.UUID
			accounts = append(accounts, account)
		}
		if err != nil {
			if answer.Items[i].Problem = problemOf(within(err, i)); answer.Items[i].Problem == nil {
				return err
			}
			continue
		}
		requests, indexes = append(requests, request), append(indexes, i)
	}
	if key != "" {
		claim.Key = contract.DerivedID(door(r), uuid.Nil, key)
		claim.Fingerprint = uuid.NewSHA1(claim.Key, body.canonical())
		claim.Others = idempotency.Others(accounts, func(account uuid.UUID, index int) uuid.UUID {
			return contract.DerivedID(door(r), account, keyOfItem(key, index))
		})
		outcomes, err := a.store.Claim(r.Context(), claim)
		if platform.IsOutcomeUnknown(err) {
			return httpserver.Unavailable(err) // a key alone has done nothing
		}
		if err != nil {
			return err
		}
		if outcomes[0].Err != nil {
			return outcomes[0].Err
		}
		if outcomes[0].Repeated {
			w.Header().Set("Idempotent-Replayed", "true")
		}
	}
	results, err := a.door.submitAll(r.Context(), requests, patience)
	if err != nil {
		return err
	}
	operations := a.shown(r.Context(), requests, results)
	for i, result := range results {
		item := &answer.Items[indexes[i]]
		switch {
		case result.err != nil:
			if item.Problem = problemOf(result.err); item.Problem == nil {
				return result.err
			}
		case result.operation.Status == ledger.Error:
			item.Problem = refusal(requests[i], result.operation)
		default:
			operation, err := a.operation(operations[i])
			if err != nil {
				return err
			}
			item.Operation = &operation
		}
	}
	return httpserver.WriteJSON(w, http.StatusOK, answer)
}

// keyOfItem tells the items of a batch apart that have no command_id. What it was in earlier versions it must stay.
func keyOfItem(key string, index int) string { return key + "#" + strconv.Itoa(index) }

// within names the fields of an error as those of an item of a batch.
func within(err error, index int) error {
	var field *command.FieldError
	if !errors.As(err, &field) {
		return err
	}
	return &command.FieldError{Field: "operations[" + strconv.Itoa(index) + "]." + field.Field, Detail: field.Detail}
}

// canonical is the same for batches whose items say the same, be they valid or not: in whichever order they have their
// fields, and whether they spell out a default. A command's JSON leaves out what it does not have, so that a field which is
// added later leaves older fingerprints true.
func (b Batch) canonical() []byte {
	commands := slices.Clone(b.Operations)
	for i := range commands {
		if commands[i].OnInsufficient == contract.OnInsufficientReject {
			commands[i].OnInsufficient = ""
		}
	}
	text, err := json.Marshal(commands)
	if err != nil {
		panic(err) // texts and IDs can always be encoded
	}
	return text
}
