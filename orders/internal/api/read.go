package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
)

// get answers with one order.
//
//	@ID				getOrder
//	@Summary		Get an order
//	@Description	With ?wait= the answer comes as soon as the payment is decided (paid, authorized, failed or cancelled),
//	@Description	else at the end of that time with the present state.
//	@Tags			orders
//	@Produce		json,application/problem+json
//	@Param			id		path		string	true	"the order's ID"								format(uuid)
//	@Param			wait	query		string	false	"how long to wait for the payment, at most 30s"	example(5s)
//	@Success		200		{object}	Order
//	@Failure		404		{object}	httpserver.Problem	"order_not_found"
//	@Failure		500		{object}	httpserver.Problem	"internal"
//	@Router			/api/v1/orders/{id} [get]
func (a *API) get(w http.ResponseWriter, r *http.Request) error {
	id, err := httpserver.PathUUID(r, "id")
	if err != nil {
		return err
	}
	wait, _, err := httpserver.Wait(r)
	if err != nil {
		return err
	}
	await, done := a.watch(id, wait)
	defer done()
	ctx := r.Context()
	o, err := a.store.Order(ctx, identity.ReachFrom(ctx), id)
	if err != nil {
		return err
	}
	return a.answer(w, http.StatusOK, await(ctx, o), false)
}

// list answers with a page of orders, or with all of them as CSV.
//
//	@ID				listOrders
//	@Summary		List orders
//	@Description	The newest first. Orders meet all filters that are given. One filter is answered by an index: the reference,
//	@Description	else the account, else the owner. For others, a page looks at no more than 10,000 orders: it may hold fewer
//	@Description	than the limit, or none, and still have a next_cursor. The list has ended when there is none.
//	@Description	With Accept: text/csv the whole list is streamed, without limit and cursor.
//	@Tags			orders
//	@Produce		json,text/csv,application/problem+json
//	@Param			account_id			query		string	false	"only of this account"	format(uuid)
//	@Param			status				query		string	false	"only in this status"	Enums(pending, authorized, paid, failed, cancelling, cancelled)
//	@Param			reason				query		string	false	"only with this reason, such as insufficient_funds"
//	@Param			reference			query		string	false	"only with this reference"
//	@Param			reference_prefix	query		string	false	"only with a reference that begins so"
//	@Param			owner				query		string	false	"only those that this subject has placed"
//	@Param			owner_prefix		query		string	false	"only those that a subject has placed whose name begins so"
//	@Param			from				query		string	false	"only those placed from this time on (RFC 3339)"	format(date-time)
//	@Param			to					query		string	false	"only those placed before this time (RFC 3339)"		format(date-time)
//	@Param			currency			query		string	false	"only in this currency"
//	@Param			min_amount			query		string	false	"only of this amount or more, in the order's own currency"
//	@Param			max_amount			query		string	false	"only of this amount or less, in the order's own currency"
//	@Param			limit				query		int		false	"how many"	minimum(1)	maximum(200)	default(50)
//	@Param			cursor				query		string	false	"next_cursor of the page before"
//	@Success		200					{object}	httpserver.List[Order]
//	@Failure		400					{object}	httpserver.Problem	"validation_failed, unknown_parameter"
//	@Failure		406					{object}	httpserver.Problem	"not_acceptable"
//	@Failure		500					{object}	httpserver.Problem	"internal"
//	@Router			/api/v1/orders [get]
func (a *API) list(w http.ResponseWriter, r *http.Request) error {
	filter, err := a.readFilter(r)
	if err != nil {
		return err
	}
	by := identity.ReachFrom(r.Context())
	return httpserver.WriteList(w, r, func(ctx context.Context, below int64, limit int) ([]order.Order, int64, error) {
		return a.store.List(ctx, by, filter, below, limit)
	}, a.json)
}

// filters are the query parameters of readFilter.
var filters = []string{"account_id", "status", "reason", "reference", "reference_prefix", "owner", "owner_prefix",
	"from", "to", "currency", "min_amount", "max_amount"}

func (a *API) readFilter(r *http.Request) (f postgres.Filter, err error) {
	if f.AccountID, err = httpserver.UUIDParam(r, "account_id"); err != nil {
		return f, err
	}
	for _, text := range []struct {
		name  string
		limit int
		to    *string
	}{
		{"reference", contract.MaxReference, &f.Reference}, {"reference_prefix", contract.MaxReference, &f.ReferencePrefix},
		{"owner", identity.MaxSubject, &f.Owner}, {"owner_prefix", identity.MaxSubject, &f.OwnerPrefix},
		{"reason", contract.MaxReason, &f.Reason},
	} {
		if *text.to, err = httpserver.TextParam(r, text.name, text.limit); err != nil {
			return f, err
		}
	}
	f.Status = order.Status(r.URL.Query().Get("status"))
	if f.Status != "" && !slices.Contains(order.Statuses(), f.Status) {
		return f, contract.Invalid("status", "is not a status of orders")
	}
	if f.From, f.To, err = httpserver.TimesParam(r); err != nil {
		return f, err
	}
	return f, a.readAmounts(r, &f)
}

// readAmounts reads between which amounts an order must be: exact ones of the currency, if one is given, else numbers,
// which count in each order's own currency.
func (a *API) readAmounts(r *http.Request, f *postgres.Filter) error {
	query := r.URL.Query()
	f.Currency = query.Get("currency")
	currency, known := a.currencies.Stored(f.Currency)
	if f.Currency != "" && !known {
		return contract.Invalid("currency", "is not a currency that is known here")
	}
	for name, to := range map[string]*string{"min_amount": &f.Min, "max_amount": &f.Max} {
		if !query.Has(name) {
			continue
		}
		*to = query.Get(name)
		digits := money.Digits(*to)
		if known {
			digits = currency.Digits
		}
		if _, err := money.Parse(*to, digits); err != nil {
			return contract.Invalid(name, "%v", err)
		}
	}
	return nil
}

// timeline answers with what happened to an order.
//
//	@ID				getOrderTimeline
//	@Summary		Get an order's timeline
//	@Description	Every step of the order, the first one first, with the ID of the event that brought it or told of it. A
//	@Description	status comes again where something happened to the payment that leaves the order where it stands: it
//	@Description	waits for something else, or money was returned.
//	@Tags			orders
//	@Produce		json,application/problem+json
//	@Param			id	path		string	true	"the order's ID"	format(uuid)
//	@Success		200	{object}	Timeline
//	@Failure		404	{object}	httpserver.Problem	"order_not_found"
//	@Failure		500	{object}	httpserver.Problem	"internal"
//	@Router			/api/v1/orders/{id}/timeline [get]
func (a *API) timeline(w http.ResponseWriter, r *http.Request) error {
	id, err := httpserver.PathUUID(r, "id")
	if err != nil {
		return err
	}
	ctx := r.Context()
	o, err := a.store.Order(ctx, identity.ReachFrom(ctx), id)
	if err != nil {
		return err
	}
	transitions, err := a.store.Transitions(ctx, o)
	if err != nil {
		return err
	}
	return httpserver.WriteJSON(w, http.StatusOK, timelineOf(o, transitions))
}
