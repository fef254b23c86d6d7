package api

import (
	"net/http"
	"time"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/placing"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

// place accepts one order.
//
//	@ID				placeOrder
//	@Summary		Place an order
//	@Description	Accepts an order and settles its payment. With ?wait= the answer comes as soon as the payment is
//	@Description	decided, else at once with the status pending. The same Idempotency-Key with the same request answers
//	@Description	with the same order in its present state and Idempotent-Replayed: true; keys are kept per account and
//	@Description	never expire.
//	@Description
//	@Description	The flows, by what the order says beside its account, amount and currency:
//	@Description	- nothing more: the account is debited at once, and the order is paid, or failed with
//	@Description	insufficient_funds;
//	@Description	- `"capture": "manual"`: the money is held and the order authorized, until `POST
//	@Description	/api/v1/payments/{order_id}/confirm` with `{"amount": "50.00"}` or without a body captures a part or all
//	@Description	of it, `…/reject` with `{"reason": "looks like fraud"}` fails the order, or the hold expires after 7
//	@Description	days;
//	@Description	- `"await_inventory": true`: the payment waits, at most 15 minutes, for `{"idempotent_key": "<uuid>",
//	@Description	"order_id": "<the order's>", "status": "COMPLETED"}` on the Kafka topic inventory; FAILED fails the
//	@Description	order with out_of_stock;
//	@Description	- `"on_insufficient": "wait"`: an order of more than there is waits for money, at most 24 hours, and
//	@Description	with it the account's later debits in that currency;
//	@Description	- `"expires_in": "1h"`: another deadline for all of these.
//	@Description
//	@Description	What was paid is returned by `POST /api/v1/payments/{order_id}/refund` with `{"amount": "20.00"}` or
//	@Description	without a body, and all of it, at any stage, by cancelling the order.
//	@Tags			orders
//	@Produce		json,application/problem+json
//	@Param			Idempotency-Key	header		string		false	"makes the request repeatable, 1 to 255 characters"
//	@Param			wait			query		string		false	"how long to wait for the payment, at most 30s"	example(5s)
//	@Param			order			body		PlaceOrder	true	"the order"
//	@Success		201				{object}	Order
//	@Header			201				{string}	Location			"where the order is"
//	@Header			201				{string}	Idempotent-Replayed	"true when the order was placed by an earlier request with this key"
//	@Failure		408				{object}	httpserver.Problem	"request_timeout"
//	@Failure		422				{object}	httpserver.Problem	"idempotency_key_reused"
//	@Failure		500				{object}	httpserver.Problem	"internal"
//	@Router			/api/v1/orders [post]
func (a *API) place(w http.ResponseWriter, r *http.Request) error {
	var request PlaceOrder
	key, wait, err := read(w, r, httpserver.DecodeJSON, &request)
	if err != nil {
		return err
	}
	ctx := r.Context()
	admitted, err := a.orders.Admit(ctx, clientOf(ctx), order.Request(request), key)
	if err != nil {
		return err
	}
	await, done := a.watch(admitted.ID, wait)
	defer done()
	placed, repeated, err := a.orders.Place(ctx, admitted)
	if err != nil {
		return err
	}
	return a.answer(w, http.StatusCreated, await(ctx, placed), repeated)
}

// read reads a request that changes something: its Idempotency-Key, how long it waits, and its body.
func read(w http.ResponseWriter, r *http.Request,
	decode func(http.ResponseWriter, *http.Request, any) error, body any) (
	key placing.Key, wait time.Duration, err error) {
	key.Sent = httpserver.SentKey(r.Header)
	if key.Text, err = httpserver.IdempotencyKey(r.Header); err != nil {
		return key, 0, err
	}
	if wait, _, err = httpserver.Wait(r); err != nil {
		return key, 0, err
	}
	return key, wait, decode(w, r, body)
}

const maxBatch = 1000

// placeBatch accepts many orders in one transaction.
//
//	@ID				placeOrders
//	@Summary		Place many orders
//	@Description	Accepts up to 1000 orders. Each has its own result: an order, or the problem that kept it from being
//	@Description	accepted. An Idempotency-Key covers the whole batch: with the same body it answers with the same orders
//	@Description	in their present state and Idempotent-Replayed: true, and places what a crash has left out; with any
//	@Description	other body nothing happens. Where it is not known whether the orders were accepted, each has the problem
//	@Description	outcome_unknown, whose location is where the order is then.
//	@Tags			orders
//	@Produce		json,application/problem+json
//	@Param			Idempotency-Key	header		string		false	"makes the request repeatable, 1 to 255 characters"
//	@Param			orders			body		PlaceOrders	true	"the orders"
//	@Success		200				{object}	Results
//	@Header			200				{string}	Idempotent-Replayed	"true when the same batch came with this key before"
//	@Failure		408				{object}	httpserver.Problem	"request_timeout"
//	@Failure		422				{object}	httpserver.Problem	"idempotency_key_reused"
//	@Failure		500				{object}	httpserver.Problem	"internal"
//	@Router			/api/v1/orders/batch [post]
func (a *API) placeBatch(w http.ResponseWriter, r *http.Request) error {
	var request PlaceOrders
	key, _, err := read(w, r, httpserver.DecodeJSON, &request)
	if err != nil {
		return err
	}
	if n := len(request.Orders); n < 1 || n > maxBatch {
		return contract.Invalid("orders", "must have 1 to %d orders", maxBatch)
	}
	requests := make([]order.Request, len(request.Orders))
	for i, o := range request.Orders {
		requests[i] = order.Request(o)
	}
	ctx := r.Context()
	placed, repeated, err := a.orders.PlaceAll(ctx, clientOf(ctx), requests, key)
	if err != nil {
		return err
	}
	results := make([]Result, len(placed))
	for i, p := range placed {
		result := &results[i]
		result.Index = i
		if p.Err != nil {
			if result.Problem = problemOf(p.Err); result.Problem == nil {
				return p.Err
			}
			continue
		}
		answer, err := a.json(p.Order)
		if err != nil {
			return err
		}
		result.Order = &answer
	}
	tellRepeated(w, repeated)
	return httpserver.WriteJSON(w, http.StatusOK, Results{results})
}

// cancel begins to cancel an order.
//
//	@ID				cancelOrder
//	@Summary		Cancel an order
//	@Description	Cancels an order that is pending, authorized or paid: its money is released or returned, exactly once.
//	@Description	The answer comes at once with the status cancelling, with ?wait= as soon as the order is cancelled, or
//	@Description	has failed because its payment had failed before. Cancelling it again answers with its present state.
//	@Description	The same Idempotency-Key with the same request does so also where the order has failed since, with
//	@Description	Idempotent-Replayed: true.
//	@Tags			orders
//	@Produce		json,application/problem+json
//	@Param			id				path		string		true	"the order's ID"	format(uuid)
//	@Param			Idempotency-Key	header		string		false	"makes the request repeatable, 1 to 255 characters"
//	@Param			wait			query		string		false	"how long to wait for the end of the payment, at most 30s"	example(5s)
//	@Param			request			body		CancelOrder	false	"why"
//	@Success		202				{object}	Order
//	@Header			202				{string}	Idempotent-Replayed	"true when an earlier request with this key cancelled the order"
//	@Failure		404				{object}	httpserver.Problem	"order_not_found"
//	@Failure		408				{object}	httpserver.Problem	"request_timeout"
//	@Failure		422				{object}	httpserver.Problem	"order_failed or idempotency_key_reused"
//	@Failure		500				{object}	httpserver.Problem	"internal"
//	@Router			/api/v1/orders/{id}/cancel [post]
func (a *API) cancel(w http.ResponseWriter, r *http.Request) error {
	id, err := httpserver.PathUUID(r, "id")
	if err != nil {
		return err
	}
	var body CancelOrder
	key, wait, err := read(w, r, httpserver.DecodeOptionalJSON, &body)
	if err != nil {
		return err
	}
	ctx := r.Context()
	await, done := a.watch(id, wait)
	defer done()
	cancelled, repeated, err := a.orders.Cancel(ctx, clientOf(ctx), id, body.Reason, key.Text)
	if err != nil {
		return err
	}
	return a.answer(w, http.StatusAccepted, await(ctx, cancelled), repeated)
}
