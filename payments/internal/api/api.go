// Package api is the HTTP of payments: the use cases of package billing as JSON, and lists of what is there.
package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
)

// operationPath is where operations are, by their IDs.
const operationPath = "/api/v1/operations/"

// API serves /api/v1 of payments.
type API struct {
	billing    *billing.Service
	store      *postgres.Store // for lists, of which billing has nothing to say
	present    billing.Presenter
	currencies *money.Currencies
}

// New makes the API.
func New(service *billing.Service, store *postgres.Store, currencies *money.Currencies) *API {
	return &API{billing: service, store: store, present: billing.NewPresenter(currencies), currencies: currencies}
}

// Routes are those of the API.
func (a *API) Routes() []httpserver.Route {
	return []httpserver.Route{
		httpserver.NewRoute("POST", "/api/v1/accounts", identity.AccountsWrite,
			httpserver.Handle(a.createAccount, "wait")),
		httpserver.NewRoute("GET", "/api/v1/accounts", identity.AccountsRead,
			httpserver.Handle(a.listAccounts, "owner", "owner_prefix", "reference", "reference_prefix", "limit", "cursor")),
		httpserver.NewRoute("GET", "/api/v1/accounts/{id}", identity.AccountsRead, httpserver.Handle(a.getAccount)),
		httpserver.NewRoute("GET", "/api/v1/accounts/{id}/balance", identity.AccountsRead,
			httpserver.Handle(a.getBalance, "at")),
		httpserver.NewRoute("GET", "/api/v1/accounts/{id}/entries", identity.AccountsRead,
			httpserver.Handle(a.listEntries, "from", "to", "limit", "cursor")),
		httpserver.NewRoute("POST", "/api/v1/accounts/{id}/deposits", identity.MoneyIn,
			httpserver.Handle(a.deposit, "wait")),
		httpserver.NewRoute("POST", "/api/v1/accounts/{id}/withdrawals", identity.MoneyOut,
			httpserver.Handle(a.withdraw, "wait")),
		httpserver.NewRoute("POST", "/api/v1/accounts/{id}/holds", identity.MoneyOut,
			httpserver.Handle(a.holdFunds, "wait")),
		httpserver.NewRoute("GET", "/api/v1/holds/{id}", identity.AccountsRead, httpserver.Handle(a.getHold)),
		httpserver.NewRoute("POST", "/api/v1/holds/{id}/capture", identity.MoneyOut, httpserver.Handle(a.capture, "wait")),
		httpserver.NewRoute("POST", "/api/v1/holds/{id}/release", identity.MoneyOut, httpserver.Handle(a.release, "wait")),
		httpserver.NewRoute("POST", "/api/v1/transfers", identity.MoneyOut, httpserver.Handle(a.transfer, "wait")),
		httpserver.NewRoute("POST", "/api/v1/operations/batch", billing.AnyCommand, httpserver.Handle(a.batch, "wait")),
		httpserver.NewRoute("GET", "/api/v1/accounts/{id}/operations", identity.AccountsRead,
			httpserver.Handle(a.listAccountOperations, "limit", "cursor")),
		httpserver.NewRoute("GET", "/api/v1/accounts/{id}/holds", identity.AccountsRead,
			httpserver.Handle(a.listHolds, "status", "limit", "cursor")),
		httpserver.NewRoute("GET", "/api/v1/operations", identity.AccountsRead, httpserver.Handle(a.listOperations,
			"order_id", "account_id", "reference", "reference_prefix", "operation", "status", "reason", "from", "to",
			"limit", "cursor")),
		httpserver.NewRoute("GET", "/api/v1/operations/{id}", identity.AccountsRead,
			httpserver.Handle(a.getOperation, "wait")),
		httpserver.NewRoute("GET", "/api/v1/operations/{id}/explain", identity.AccountsRead,
			httpserver.Handle(a.explainOperation)),
		httpserver.NewRoute("POST", "/api/v1/operations/{id}/cancel", identity.MoneyOut,
			httpserver.Handle(a.cancel, "wait")),
		httpserver.NewRoute("GET", "/api/v1/payments", identity.PaymentsRead, httpserver.Handle(a.listPayments,
			"order_id", "account_id", "status", "reason", "from", "to", "limit", "cursor")),
		httpserver.NewRoute("GET", "/api/v1/payments/{order_id}", identity.PaymentsRead,
			httpserver.Handle(a.getPayment, "wait")),
		httpserver.NewRoute("GET", "/api/v1/payments/{order_id}/explain", identity.PaymentsRead,
			httpserver.Handle(a.explainPayment)),
		httpserver.NewRoute("POST", "/api/v1/payments/{order_id}/confirm", identity.PaymentsWrite,
			httpserver.Handle(a.confirm, "wait")),
		httpserver.NewRoute("POST", "/api/v1/payments/{order_id}/reject", identity.PaymentsWrite,
			httpserver.Handle(a.reject, "wait")),
		httpserver.NewRoute("POST", "/api/v1/payments/{order_id}/refund", identity.PaymentsWrite,
			httpserver.Handle(a.refund, "wait")),
		httpserver.NewRoute("GET", "/api/v1/currencies", identity.Anyone, httpserver.Handle(a.listCurrencies)),
	}
}

// submit has a command done and answers with the operation that its client sees, or with the account that it opened:
// 201 when it succeeded (200 of a cancellation), 202 while it has no result, its problem when it ended in error.
func (a *API) submit(w http.ResponseWriter, r *http.Request, c contract.Command) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	result, err := a.billing.Submit(r.Context(), c, call)
	tellReplayed(w, result.Replayed)
	if err != nil {
		return err
	}
	location, body := operationPath+result.Operation.ID.String(), any(result.Operation)
	if result.Account != nil {
		location, body = "/api/v1/accounts/"+result.Account.ID.String(), result.Account
	}
	w.Header().Set("Location", location)
	return httpserver.WriteJSON(w, result.Code, body)
}

// submitBody is submit for the command that is made of the ID in the path and of the request's body.
func submitBody[Body any](a *API, w http.ResponseWriter, r *http.Request,
	decode func(http.ResponseWriter, *http.Request, any) error,
	command func(id uuid.UUID, body Body) contract.Command) error {
	var body Body
	id, err := httpserver.PathUUID(r, "id")
	if err == nil {
		err = decode(w, r, &body)
	}
	if err != nil {
		return err
	}
	return a.submit(w, r, command(id, body))
}

// get answers with what is read of the ID in the path, as far as the client reaches it.
func get[Body any](w http.ResponseWriter, r *http.Request, name string,
	read func(ctx context.Context, by identity.Reach, id uuid.UUID) (Body, error)) error {
	id, err := httpserver.PathUUID(r, name)
	if err != nil {
		return err
	}
	body, err := read(r.Context(), identity.ReachFrom(r.Context()), id)
	return answer(w, body, err)
}

// answer answers with what was read.
func answer(w http.ResponseWriter, body any, err error) error {
	if err != nil {
		return err
	}
	return httpserver.WriteJSON(w, http.StatusOK, body)
}

// callOf reads what comes with a request beside its body. An ID in the path may be written in either case.
func callOf(r *http.Request) (call billing.Call, err error) {
	call.Who = identity.FromContext(r.Context())
	call.Scope, call.SentKey = strings.ToLower(r.URL.Path), httpserver.SentKey(r.Header)
	if call.Key, err = httpserver.IdempotencyKey(r.Header); err != nil {
		return call, err
	}
	call.Wait, call.Asked, err = httpserver.Wait(r)
	return call, err
}

// tellReplayed says that a request was done before.
func tellReplayed(w http.ResponseWriter, replayed bool) {
	if replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
}

// listCurrencies lists the currencies.
//
//	@ID			listCurrencies
//	@Summary	List the currencies and their numbers of decimal digits
//	@Tags		currencies
//	@Success	200	{object}	CurrencyList
//	@Router		/api/v1/currencies [get]
func (a *API) listCurrencies(w http.ResponseWriter, _ *http.Request) error {
	return httpserver.WriteJSON(w, http.StatusOK, CurrencyList{Items: a.currencies.List()})
}
