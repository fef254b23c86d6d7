package api

import (
	"net/http"
	"slices"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
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

// list answers with a page of orders.
//
//	@ID				listOrders
//	@Summary		List orders
//	@Description	The newest first, by account, status and reference. A page that is filtered by status looks at no more
//	@Description	than 10,000 orders, and so does one by account or reference for a token with orders:read.own, or of the
//	@Description	tenant default where there are others: it may hold fewer than the limit, or none, and still have a
//	@Description	next_cursor. The list has ended when there is none.
//	@Tags			orders
//	@Produce		json,application/problem+json
//	@Param			account_id	query		string	false	"only of this account"			format(uuid)
//	@Param			status		query		string	false	"only in this status"			Enums(pending, authorized, paid, failed, cancelling, cancelled)
//	@Param			reference	query		string	false	"only with this reference"
//	@Param			limit		query		int		false	"how many"						minimum(1)	maximum(200)	default(50)
//	@Param			cursor		query		string	false	"next_cursor of the page before"
//	@Success		200			{object}	httpserver.List[Order]
//	@Failure		500			{object}	httpserver.Problem	"internal"
//	@Router			/api/v1/orders [get]
func (a *API) list(w http.ResponseWriter, r *http.Request) error {
	before := postgres.FirstPage // or the cursor's position
	limit, err := httpserver.Page(r, &before)
	if err != nil {
		return err
	}
	if before < 1 {
		return httpserver.BadCursor()
	}
	filter, err := readFilter(r)
	if err != nil {
		return err
	}
	ctx := r.Context()
	page, next, err := a.store.List(ctx, identity.ReachFrom(ctx), filter, before, limit)
	if err != nil {
		return err
	}
	items := make([]Order, len(page))
	for i, o := range page {
		if items[i], err = a.json(o); err != nil {
			return err
		}
	}
	cursor := ""
	if next != 0 {
		if cursor, err = httpserver.Cursor(r, next); err != nil {
			return err
		}
	}
	return httpserver.WriteJSON(w, http.StatusOK, httpserver.NewList(items, cursor))
}

func readFilter(r *http.Request) (filter postgres.Filter, err error) {
	if filter.AccountID, err = httpserver.UUIDParam(r, "account_id"); err != nil {
		return filter, err
	}
	if filter.Reference, err = httpserver.TextParam(r, "reference", contract.MaxReference); err != nil {
		return filter, err
	}
	filter.Status = order.Status(r.URL.Query().Get("status"))
	if filter.Status != "" && !slices.Contains(order.Statuses(), filter.Status) {
		return filter, contract.Invalid("status", "is not a status of orders")
	}
	return filter, nil
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
