// Package api is the HTTP of payments: JSON in, a message into the inbox, its result out; and what can be looked up.
package api

import (
	"context"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/command"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/payments/internal/wire"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/money"
)

// ResultWait is how long a POST waits for its result where the client does not say.
const ResultWait = 5 * time.Second

// operationPath is where operations are, by their IDs.
const operationPath = "/api/v1/operations/"

// API serves /api/v1 of payments.
type API struct {
	store      *postgres.Store
	door       *Door
	currencies *money.Currencies
	reader     command.Reader
	full       func(lane int16) bool
}

// New makes the API. full tells for which lanes there is no room for what makes events.
func New(store *postgres.Store, door *Door, currencies *money.Currencies, full func(lane int16) bool) *API {
	return &API{store: store, door: door, currencies: currencies, reader: command.NewReader(currencies), full: full}
}

// Routes mounts the API.
func (a *API) Routes(r chi.Router) {
	r.Post("/api/v1/accounts", httpserver.Handle(a.createAccount, "wait"))
	r.Get("/api/v1/accounts", httpserver.Handle(a.listAccounts, "owner", "reference", "limit", "cursor"))
	r.Get("/api/v1/accounts/{id}", httpserver.Handle(a.getAccount))
	r.Get("/api/v1/accounts/{id}/balance", httpserver.Handle(a.getBalance, "at"))
	r.Get("/api/v1/accounts/{id}/entries", httpserver.Handle(a.listEntries, "from", "to", "limit", "cursor"))
	r.Post("/api/v1/accounts/{id}/deposits", httpserver.Handle(a.deposit, "wait"))
	r.Post("/api/v1/accounts/{id}/withdrawals", httpserver.Handle(a.withdraw, "wait"))
	r.Post("/api/v1/accounts/{id}/holds", httpserver.Handle(a.holdFunds, "wait"))
	r.Get("/api/v1/holds/{id}", httpserver.Handle(a.getHold))
	r.Post("/api/v1/holds/{id}/capture", httpserver.Handle(a.capture, "wait"))
	r.Post("/api/v1/holds/{id}/release", httpserver.Handle(a.release, "wait"))
	r.Post("/api/v1/transfers", httpserver.Handle(a.transfer, "wait"))
	r.Post("/api/v1/operations/batch", httpserver.Handle(a.batch, "wait"))
	r.Get("/api/v1/accounts/{id}/operations", httpserver.Handle(a.listOperations, "limit", "cursor"))
	r.Get("/api/v1/operations/{id}", httpserver.Handle(a.getOperation, "wait"))
	r.Post("/api/v1/operations/{id}/cancel", httpserver.Handle(a.cancel, "wait"))
	r.Get("/api/v1/payments/{order_id}", httpserver.Handle(a.getPayment, "wait"))
	r.Post("/api/v1/payments/{order_id}/confirm", httpserver.Handle(a.confirm, "wait"))
	r.Post("/api/v1/payments/{order_id}/reject", httpserver.Handle(a.reject, "wait"))
	r.Post("/api/v1/payments/{order_id}/refund", httpserver.Handle(a.refund, "wait"))
	r.Get("/api/v1/currencies", httpserver.Handle(a.listCurrencies))
}

// command runs a command through the door and answers with the operation that its client sees: 201 when it succeeded (200 of a
// cancellation), 202 while it has no result, its problem when it ended in error. answer, if not nil, replaces the operation in
// a 201.
func (a *API) command(w http.ResponseWriter, r *http.Request, c contract.Command,
	answer func(*ledger.Operation) (location string, body any, err error)) error {
	key, err := httpserver.IdempotencyKey(r.Header)
	if err != nil {
		return err
	}
	patience, err := patienceOf(r)
	if err != nil {
		return err
	}
	request, err := a.request(r, c, key)
	if err != nil {
		return err
	}
	outcome, err := a.door.submit(r.Context(), request, patience)
	if err != nil {
		return err
	}
	if outcome.replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	if outcome.operation.Status == ledger.Error {
		return refusal(request, outcome.operation)
	}
	status := wire.Code(outcome.operation)
	if status == http.StatusCreated && answer != nil {
		location, body, err := answer(outcome.operation)
		if err != nil {
			return outcomeUnknown(r.Context(), outcome.operation.ID, err)
		}
		w.Header().Set("Location", location)
		return httpserver.WriteJSON(w, status, body)
	}
	results := []result{outcome}
	operations := a.shown(r.Context(), []ledger.Request{request}, results)
	if err := results[0].err; err != nil {
		return err
	}
	body, err := a.operation(operations[0])
	if err != nil {
		return err
	}
	w.Header().Set("Location", operationPath+body.ID.String())
	return httpserver.WriteJSON(w, status, body)
}

// patienceOf reads how long a client waits for a result. One that does not say is told at once that a request waits for money.
func patienceOf(r *http.Request) (patience, error) {
	wait, asked, err := httpserver.Wait(r)
	if err != nil || asked {
		return patience{wait: wait, funds: true}, err
	}
	return patience{wait: ResultWait}, nil
}

// request reads one command that came with a key, or with "".
func (a *API) request(r *http.Request, c contract.Command, key string) (ledger.Request, error) {
	named, err := a.store.Named(r.Context(), c)
	if err != nil {
		return ledger.Request{}, err
	}
	request, err := a.reader.Request(c, named)
	if err != nil {
		return request, err
	}
	if err := a.identify(r.Context(), &request, door(r), key, httpserver.SentKey(r.Header)); err != nil || key == "" || request.Kind != ledger.CreateAccount {
		return request, err
	}
	outcomes, err := a.claim(r.Context(), command.Claim(request, door(r), key))
	if err != nil {
		return request, err
	}
	return request, outcomes[0].Err
}

// identify gives a request its ID. What an earlier version has accepted under the key as it was sent has that one.
func (a *API) identify(ctx context.Context, r *ledger.Request, door, key, sent string) error {
	if sent != "" {
		before := *r
		if err := command.Identify(&before, door, sent); err != nil {
			return err
		}
		accepted, err := a.store.Accepted(ctx, []uuid.UUID{before.ID})
		if err != nil {
			return err
		}
		if len(accepted) > 0 {
			*r = before
			return nil
		}
	}
	return command.Identify(r, door, key)
}

// door is where a request came in, for the keys of clients. An ID in the path may be written in either case.
func door(r *http.Request) string { return strings.ToLower(r.URL.Path) }

// page turns rows into a list's answer. One row more than the limit was asked for: it tells that there is a next page.
func page[Row, Item any](r *http.Request, rows []Row, limit int, position func(last Row) any,
	item func(Row) (Item, error)) (list httpserver.List[Item], err error) {
	list.Items = make([]Item, 0, min(len(rows), limit))
	for i, row := range rows {
		if i == limit {
			list.NextCursor, err = httpserver.Cursor(r, position(rows[i-1]))
			return list, err
		}
		out, err := item(row)
		if err != nil {
			return list, err
		}
		list.Items = append(list.Items, out)
	}
	return list, nil
}

// below reads a list's page: newest first, from below a position on.
func below(r *http.Request) (limit int, position int64, err error) {
	position = math.MaxInt64
	limit, err = httpserver.Page(r, &position)
	if err == nil && position < 1 {
		err = httpserver.BadCursor()
	}
	return limit, position, err
}

// getOperation looks an operation up.
//
//	@ID			getOperation
//	@Summary	Look at an operation
//	@Tags		operations
//	@Produce	json
//	@Param		id		path		string	true	"ID of the operation"	format(uuid)
//	@Param		wait	query		string	false	"wait so long for it to be final, at most 30s"	example(5s)
//	@Success	200		{object}	contract.Operation
//	@Failure	400		{object}	httpserver.Problem
//	@Failure	404		{object}	httpserver.Problem	"operation_not_found"
//	@Router		/api/v1/operations/{id} [get]
func (a *API) getOperation(w http.ResponseWriter, r *http.Request) error {
	id, err := httpserver.PathUUID(r, "id")
	if err != nil {
		return err
	}
	wait, _, err := httpserver.Wait(r)
	if err != nil {
		return err
	}
	op, err := a.door.await(r.Context(), id, wait)
	if err == nil && op.Kind == ledger.CancelOperation { // it is seen in what it has ended
		err = postgres.ErrNotFound
	}
	if err != nil {
		return notFound(err, codeOperationNotFound)
	}
	body, err := a.operation(op)
	if err != nil {
		return err
	}
	return httpserver.WriteJSON(w, http.StatusOK, body)
}

// listCurrencies lists the currencies.
//
//	@ID			listCurrencies
//	@Summary	List the currencies and their numbers of decimal digits
//	@Tags		currencies
//	@Produce	json
//	@Success	200	{object}	CurrencyList
//	@Router		/api/v1/currencies [get]
func (a *API) listCurrencies(w http.ResponseWriter, _ *http.Request) error {
	return httpserver.WriteJSON(w, http.StatusOK, CurrencyList{Items: a.currencies.List()})
}
