package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

const cancelPath = Path + "/{id}/cancel"

// cancel begins to cancel an order.
//
//	@ID				cancelOrder
//	@Summary		Cancel an order
//	@Description	Cancels an order that is pending, authorized or paid: its money is released or returned, exactly once. The answer comes at
//	@Description	once with the status cancelling, with ?wait= as soon as the order is cancelled, or has failed because its payment had failed
//	@Description	before. Cancelling it again answers with its present state. The same Idempotency-Key with the same request does so also where
//	@Description	the order has failed since, with Idempotent-Replayed: true.
//	@Tags			orders
//	@Accept			json
//	@Produce		json,application/problem+json
//	@Param			id				path		string		true	"the order's ID"	format(uuid)
//	@Param			Idempotency-Key	header		string		false	"makes the request repeatable, 1 to 255 characters"
//	@Param			wait			query		string		false	"how long to wait for the end of the payment, at most 30s"	example(5s)
//	@Param			request			body		CancelOrder	false	"why"
//	@Success		202				{object}	Order
//	@Header			202				{string}	Idempotent-Replayed	"true when an earlier request with this key cancelled the order"
//	@Failure		400				{object}	httpserver.Problem	"invalid_json, unknown_field or validation_failed"
//	@Failure		404				{object}	httpserver.Problem	"order_not_found"
//	@Failure		408				{object}	httpserver.Problem	"request_timeout"
//	@Failure		413				{object}	httpserver.Problem	"body_too_large"
//	@Failure		415				{object}	httpserver.Problem	"unsupported_media_type"
//	@Failure		422				{object}	httpserver.Problem	"order_failed or idempotency_key_reused"
//	@Failure		500				{object}	httpserver.Problem	"internal"
//	@Failure		503				{object}	httpserver.Problem	"unavailable, overloaded, or outcome_unknown: Location names the order"
//	@Router			/api/v1/orders/{id}/cancel [post]
func (a *API) cancel(w http.ResponseWriter, r *http.Request) error {
	id, err := httpserver.PathUUID(r, "id")
	if err != nil {
		return err
	}
	key, err := httpserver.IdempotencyKey(r.Header)
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
	if err := contract.CheckText(body.Reason, contract.MaxReason); err != nil {
		return contract.Invalid("reason", "%v", err)
	}
	ctx := r.Context()
	request := postgres.Cancellation{
		OrderID: id, Fingerprint: order.CancellationFingerprint(body.Reason), Reason: body.Reason, Traceparent: telemetry.Traceparent(ctx),
	}
	if key != "" {
		// An order has one account, so its own ID scopes the key at least as far.
		request.Request = uuid.NullUUID{UUID: contract.DerivedID(cancelPath, id, key), Valid: true}
	}
	await, done := a.watch(id, wait)
	defer done()
	cancelled, err := a.cancelling.Do(ctx, request)
	if err != nil {
		return outcomeOf(ctx, id, err)
	}
	if cancelled.Err != nil {
		return cancelled.Err
	}
	answer, err := a.json(await(ctx, cancelled.Order))
	if err != nil {
		return err
	}
	if cancelled.Repeated {
		w.Header().Set(replayedHeader, "true")
	}
	return httpserver.WriteJSON(w, http.StatusAccepted, answer)
}

// commitCancellations stores what requests to cancel change, wakes who publishes it and tells who watches the orders.
func (a *API) commitCancellations(ctx context.Context, requests []postgres.Cancellation) ([]postgres.Cancelled, error) {
	results, err := a.store.Cancel(ctx, requests, a.cancelledEvent)
	if err != nil {
		return nil, err
	}
	for _, c := range results {
		if c.New {
			a.wake()
			a.cancellations.Inc()
			a.changes.Publish(c.Order.ID, c.Order)
		}
	}
	return results, nil
}

// cancelledEvent encodes the event of a cancellation.
func (a *API) cancelledEvent(o order.Order, t order.Transition) (string, error) {
	currency, err := a.currency(o)
	if err != nil {
		return "", err
	}
	event, err := json.Marshal(o.Cancelled(currency, t))
	if err != nil {
		return "", fmt.Errorf("encode the cancellation of order %s: %w", o.ID, err)
	}
	return string(event), nil
}
