// Package api is the HTTP of payments: JSON in, a message into the inbox, its result out; and what can be looked up.
package api

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/command"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/money"
)

// ResultWait is how long a POST waits for its result where the client does not say.
const ResultWait = 5 * time.Second

// API serves /api/v1 of payments.
type API struct {
	store      *postgres.Store
	door       *Door
	currencies *money.Currencies
	reader     command.Reader
}

// New makes the API.
func New(store *postgres.Store, door *Door, currencies *money.Currencies) *API {
	return &API{store: store, door: door, currencies: currencies, reader: command.NewReader(currencies)}
}

// Routes mounts the API.
func (a *API) Routes(r chi.Router) {
	r.Post("/api/v1/accounts", httpserver.Handle(a.createAccount))
	r.Get("/api/v1/accounts", httpserver.Handle(a.listAccounts))
	r.Get("/api/v1/accounts/{id}", httpserver.Handle(a.getAccount))
	r.Get("/api/v1/accounts/{id}/balance", httpserver.Handle(a.getBalance))
	r.Get("/api/v1/accounts/{id}/entries", httpserver.Handle(a.listEntries))
	r.Post("/api/v1/accounts/{id}/deposits", httpserver.Handle(a.deposit))
	r.Post("/api/v1/accounts/{id}/withdrawals", httpserver.Handle(a.withdraw))
	r.Post("/api/v1/accounts/{id}/holds", httpserver.Handle(a.holdFunds))
	r.Get("/api/v1/holds/{id}", httpserver.Handle(a.getHold))
	r.Post("/api/v1/holds/{id}/capture", httpserver.Handle(a.capture))
	r.Post("/api/v1/holds/{id}/release", httpserver.Handle(a.release))
	r.Post("/api/v1/transfers", httpserver.Handle(a.transfer))
	r.Post("/api/v1/operations/batch", httpserver.Handle(a.batch))
	r.Get("/api/v1/accounts/{id}/operations", httpserver.Handle(a.listOperations))
	r.Get("/api/v1/operations/{id}", httpserver.Handle(a.getOperation))
	r.Get("/api/v1/payments/{order_id}", httpserver.Handle(a.getPayment))
	r.Post("/api/v1/payments/{order_id}/confirm", httpserver.Handle(a.confirm))
	r.Post("/api/v1/payments/{order_id}/reject", httpserver.Handle(a.reject))
	r.Post("/api/v1/payments/{order_id}/refund", httpserver.Handle(a.refund))
	r.Get("/api/v1/currencies", httpserver.Handle(a.listCurrencies))
}

// command runs a command through the door and answers with its operation: 201 when it succeeded, 202 while it has no
// result, its problem when it ended in error. answer, if not nil, replaces the operation in a 201.
func (a *API) command(w http.ResponseWriter, r *http.Request, c contract.Command,
	answer func(*ledger.Operation) (location string, body any, err error)) error {
	key, err := httpserver.IdempotencyKey(r)
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
	result, err := a.door.submit(r.Context(), request, patience)
	if err != nil {
		return err
	}
	if result.replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	op := result.operation
	if op.Status == ledger.Error {
		return failure(op)
	}
	status, location := http.StatusCreated, "/api/v1/operations/"+op.ID.String()
	var body any
	switch {
	case op.Status == ledger.Created:
		status = http.StatusAccepted
		body, err = a.operation(op)
	case answer != nil:
		location, body, err = answer(op)
	default:
		body, err = a.operation(op)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Location", location)
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
	var holds map[uuid.UUID]command.Hold
	if c.HoldID != nil {
		var err error
		if holds, err = a.store.HoldsOf(r.Context(), []uuid.UUID{*c.HoldID}); err != nil {
			return ledger.Request{}, err
		}
	}
	request, err := a.reader.Request(c, holds)
	if err != nil {
		return request, err
	}
	return request, command.Identify(&request, door(r), key)
}

// door is where a request came in, for the keys of clients. An ID in the path may be written in either case.
func door(r *http.Request) string { return strings.ToLower(r.URL.Path) }

// cursor writes where a list goes on; the client gives it back as it is.
func cursor(position any) string {
	text, err := json.Marshal(position)
	if err != nil {
		panic(err) // positions are numbers and maps of numbers
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// fromCursor reads a position back; an empty text leaves it as it is.
func fromCursor(text string, position any) error {
	if text == "" {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, position)
	}
	if err != nil {
		return httpserver.Invalid("cursor", "is not a cursor of this list")
	}
	return nil
}

// timeParam reads a time from the query; zero where there is none.
func timeParam(r *http.Request, name string) (time.Time, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Year() < 1 || at.Year() > 9999 {
		return time.Time{}, httpserver.Invalid(name, "must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z")
	}
	return at, nil
}

// page turns rows into a list's answer. One row more than the limit was asked for: it tells that there is a next page.
func page[Row, Item any](rows []Row, limit int, position func(last Row) any, item func(Row) (Item, error)) (httpserver.List[Item], error) {
	list := httpserver.List[Item]{Items: make([]Item, 0, min(len(rows), limit))}
	for i, row := range rows {
		if i == limit {
			list.NextCursor = cursor(position(rows[i-1]))
			break
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
	limit, text, err := httpserver.Page(r)
	if err != nil {
		return 0, 0, err
	}
	position = math.MaxInt64
	return limit, position, fromCursor(text, &position)
}

// getOperation looks an operation up.
//
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
//	@Summary	List the currencies and their numbers of decimal digits
//	@Tags		currencies
//	@Produce	json
//	@Success	200	{object}	CurrencyList
//	@Router		/api/v1/currencies [get]
func (a *API) listCurrencies(w http.ResponseWriter, _ *http.Request) error {
	return httpserver.WriteJSON(w, http.StatusOK, CurrencyList{Items: a.currencies.List()})
}
