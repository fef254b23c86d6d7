package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/command"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/idempotency"
	pg "github.com/altyn-pay/altyn/platform/postgres"
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
//	@Failure		503				{object}	httpserver.Problem	"unavailable or overloaded"
//	@Router			/api/v1/operations/batch [post]
func (a *API) batch(w http.ResponseWriter, r *http.Request) error {
	key, err := httpserver.IdempotencyKey(r.Header)
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
		return contract.Invalid("operations", "must have 1 to 1000 items")
	}
	named, err := a.store.Named(r.Context(), body.Operations...)
	if err != nil {
		return err
	}
	answer := BatchResult{Items: make([]BatchItem, len(body.Operations))}
	items, err := a.items(door(r), key, body, named, answer)
	if err != nil {
		return err
	}
	if sent := httpserver.SentKey(r.Header); sent != "" { // it may have come to an earlier version
		before, err := a.items(door(r), sent, body, named, answer)
		if err != nil {
			return err
		}
		accepted, err := a.store.Accepted(r.Context(), body.claim(door(r), sent, before).IDs())
		if err != nil {
			return err
		}
		if len(accepted) > 0 {
			key, items = sent, before
		}
	}
	if key != "" {
		outcomes, err := a.claim(r.Context(), body.claim(door(r), key, items))
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
	if err := a.commands(r.Context(), items); err != nil {
		return err
	}
	requests, indexes := make([]ledger.Request, 0, len(items)), make([]int, 0, len(items))
	for _, it := range items {
		if it.err != nil {
			answer.Items[it.index].Problem = problemOf(it.err)
			continue
		}
		requests, indexes = append(requests, it.request), append(indexes, it.index)
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

// items reads a batch that came with a key, or with "", and answers what is not valid.
func (a *API) items(door, key string, body Batch, named command.Named, answer BatchResult) ([]item, error) {
	items := make([]item, 0, len(body.Operations))
	for i, c := range body.Operations {
		answer.Items[i].Index = i
		it, err := a.item(door, key, i, c, named)
		if err == nil {
			items = append(items, it)
		} else if answer.Items[i].Problem = problemOf(contract.Within("operations["+strconv.Itoa(i)+"].", err)); answer.Items[i].Problem == nil {
			return nil, err
		}
	}
	return items, nil
}

// item is a valid item of a batch.
type item struct {
	index   int
	account uuid.UUID // whose it is as far as the item says
	command *uuid.UUID
	request ledger.Request
	asked   ledger.Request // the same without an ID
	err     error          // why it is not accepted all the same
}

// item reads an item of a batch that came with a key, or with "". A command_id is the item's own key, the same one as over the
// broker.
func (a *API) item(door, key string, index int, c contract.Command, named command.Named) (it item, err error) {
	it.index, it.command = index, c.CommandID
	if it.asked, err = a.reader.Request(c, named); err != nil {
		return it, err
	}
	if it.asked.Kind == ledger.Question {
		return it, contract.Invalid("operation", "balance is asked by GET /api/v1/accounts/{id}/balance")
	}
	it.account = it.asked.AccountID
	switch {
	case c.CommandID != nil:
		it.asked.CommandID = *c.CommandID
		door, key = contract.TopicCommands, c.CommandID.String()
	case key != "":
		key = keyOfItem(key, index)
	}
	it.request = it.asked
	return it, command.Identify(&it.request, door, key)
}

// keyOfItem tells the items of a batch apart that have no command_id. What it was in earlier versions it must stay.
func keyOfItem(key string, index int) string { return key + "#" + strconv.Itoa(index) }

// claim claims the key for the batch, of which these items are valid.
func (b Batch) claim(door, key string, items []item) idempotency.Claim {
	c := idempotency.Claim{Key: contract.DerivedID(door, uuid.Nil, key), Makes: make(map[uuid.UUID]uuid.UUID)}
	c.Fingerprint = uuid.NewSHA1(c.Key, b.canonical())
	var accounts []uuid.UUID
	for _, it := range items {
		if it.command == nil {
			c.Makes[it.request.ID] = it.request.Fingerprint.UUID
			accounts = append(accounts, it.account)
		}
	}
	c.Others = idempotency.Others(accounts, func(account uuid.UUID, index int) uuid.UUID {
		return contract.DerivedID(door, account, keyOfItem(key, index))
	})
	return c
}

// doorBefore is where an item with a command_id came in for earlier versions, which took it for another command than the same
// one over the broker. What they accepted keeps its ID.
const doorBefore = "/api/v1/operations/batch"

// commands settles what the items with a command_id are: those that an earlier version has accepted have its IDs, and an ID
// that came with another new account before is refused.
func (a *API) commands(ctx context.Context, items []item) error {
	var ids []uuid.UUID // as earlier versions gave them
	for i := range items {
		it := &items[i]
		if it.command == nil {
			continue
		}
		if err := command.Identify(&it.asked, doorBefore, it.command.String()); err != nil {
			return err
		}
		ids = append(ids, it.asked.ID)
	}
	accepted, err := a.store.Accepted(ctx, ids)
	if err != nil {
		return err
	}
	var claims []idempotency.Claim
	var claimed []int // in items
	for i, it := range items {
		if it.command == nil {
			continue
		}
		if _, ok := accepted[it.asked.ID]; ok {
			items[i].request = it.asked
		} else if it.request.Kind == ledger.CreateAccount {
			claims, claimed = append(claims, command.Claim(it.request, contract.TopicCommands, it.command.String())), append(claimed, i)
		}
	}
	outcomes, err := a.claim(ctx, claims...)
	for n, o := range outcomes {
		items[claimed[n]].err = o.Err
	}
	return err
}

// claim makes keys stand for their requests.
func (a *API) claim(ctx context.Context, claims ...idempotency.Claim) ([]idempotency.Outcome, error) {
	outcomes, err := a.store.Claim(ctx, claims...)
	if pg.IsOutcomeUnknown(err) {
		return nil, httpserver.Unavailable(err) // a key alone has done nothing
	}
	return outcomes, err
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
