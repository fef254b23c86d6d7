package api

import (
	"net/http"

	"github.com/altyn-pay/altyn/platform/httpserver"
)

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
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	wait, _, err := httpserver.Wait(r)
	if err != nil {
		return err
	}
	var body CancelOrder
	if err := httpserver.DecodeOptionalJSON(w, r, &body); err != nil {
		return err
	}
	ctx := r.Context()
	await, done := a.watch(id, wait)
	defer done()
	cancelled, repeated, err := a.orders.Cancel(ctx, clientOf(ctx), id, body.Reason, key.Text)
	if err != nil {
		return err
	}
	answer, err := a.json(await(ctx, cancelled))
	if err != nil {
		return err
	}
	if repeated {
		w.Header().Set(replayedHeader, "true")
	}
	return httpserver.WriteJSON(w, http.StatusAccepted, answer)
}
