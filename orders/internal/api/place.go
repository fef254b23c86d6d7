package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

const replayedHeader = "Idempotent-Replayed"

// place accepts one order.
//
//	@ID				placeOrder
//	@Summary		Place an order
//	@Description	Accepts an order and settles its payment. With ?wait= the answer comes as soon as the payment is decided, else at once
//	@Description	with the status pending. The same Idempotency-Key with the same request answers with the same order in its present state
//	@Description	and Idempotent-Replayed: true; keys are kept per account and never expire.
//	@Description
//	@Description	The flows, by what the order says beside its account, amount and currency:
//	@Description	- nothing more: the account is debited at once, and the order is paid, or failed with insufficient_funds;
//	@Description	- `"capture": "manual"`: the money is held and the order authorized, until `POST /api/v1/payments/{order_id}/confirm` with
//	@Description	`{"amount": "50.00"}` or without a body captures a part or all of it, `…/reject` with `{"reason": "looks like fraud"}` fails the
//	@Description	order, or the hold expires after 7 days;
//	@Description	- `"await_inventory": true`: the payment waits, at most 15 minutes, for
//	@Description	`{"idempotent_key": "<uuid>", "order_id": "<the order's>", "status": "COMPLETED"}` on the Kafka topic inventory; FAILED fails the order
//	@Description	with out_of_stock;
//	@Description	- `"on_insufficient": "wait"`: an order of more than there is waits for money, at most 24 hours, and with it the account's later
//	@Description	debits in that currency;
//	@Description	- `"expires_in": "1h"`: another deadline for all of these.
//	@Description
//	@Description	What was paid is returned by `POST /api/v1/payments/{order_id}/refund` with `{"amount": "20.00"}` or without a body, and all of it,
//	@Description	at any stage, by cancelling the order.
//	@Tags			orders
//	@Accept			json
//	@Produce		json,application/problem+json
//	@Param			Idempotency-Key	header		string		false	"makes the request repeatable, 1 to 255 characters"
//	@Param			wait			query		string		false	"how long to wait for the payment, at most 30s"	example(5s)
//	@Param			order			body		PlaceOrder	true	"the order"
//	@Success		201				{object}	Order
//	@Header			201				{string}	Location			"where the order is"
//	@Header			201				{string}	Idempotent-Replayed	"true when the order was placed by an earlier request with this key"
//	@Failure		400				{object}	httpserver.Problem	"invalid_json, unknown_field or validation_failed"
//	@Failure		408				{object}	httpserver.Problem	"request_timeout"
//	@Failure		413				{object}	httpserver.Problem	"body_too_large"
//	@Failure		415				{object}	httpserver.Problem	"unsupported_media_type"
//	@Failure		422				{object}	httpserver.Problem	"idempotency_key_reused"
//	@Failure		500				{object}	httpserver.Problem	"internal"
//	@Failure		503				{object}	httpserver.Problem	"unavailable, overloaded, or outcome_unknown: Location names the order"
//	@Router			/api/v1/orders [post]
func (a *API) place(w http.ResponseWriter, r *http.Request) error {
	key, err := httpserver.IdempotencyKey(r.Header)
	if err != nil {
		return err
	}
	wait, _, err := httpserver.Wait(r)
	if err != nil {
		return err
	}
	var request PlaceOrder
	if err := httpserver.DecodeJSON(w, r, &request); err != nil {
		return err
	}
	ctx := r.Context()
	placement, err := a.placement(ctx, request, Path, key)
	if err != nil {
		return err
	}
	if sent := httpserver.SentKey(r.Header); sent != "" { // it may have come to an earlier version
		before, err := a.placement(ctx, request, Path, sent)
		if err != nil {
			return err
		}
		placed, err := a.store.Placed(ctx, []uuid.UUID{before.Order.ID})
		if err != nil {
			return err
		}
		if len(placed) > 0 {
			placement = before
		}
	}
	if room, err := a.room(ctx, key, placement); err != nil {
		return err
	} else if !room[0] {
		return outbox.ErrFull
	}
	await, done := a.watch(placement.Order.ID, wait)
	defer done()
	placed, err := a.placing.Do(ctx, placement)
	if err != nil {
		return outcomeOf(ctx, placement.Order.ID, err)
	}
	if placed.Order.Fingerprint != placement.Order.Fingerprint {
		return errKeyReused
	}
	answer, err := a.json(await(ctx, placed.Order))
	if err != nil {
		return err
	}
	w.Header().Set("Location", Path+"/"+answer.ID.String())
	if !placed.New {
		w.Header().Set(replayedHeader, "true")
	}
	return httpserver.WriteJSON(w, http.StatusCreated, answer)
}

// room tells for each order whether there is room for it. What came with a key and has been placed before needs none.
func (a *API) room(ctx context.Context, key string, placements ...postgres.Placement) ([]bool, error) {
	room := make([]bool, len(placements))
	var full []uuid.UUID
	for i, p := range placements {
		if room[i] = !a.full(contract.Lane(p.Order.AccountID)); !room[i] {
			full = append(full, p.Order.ID)
		}
	}
	if key == "" || len(full) == 0 {
		return room, nil
	}
	placed, err := a.store.Placed(ctx, full)
	for i, p := range placements {
		if _, ok := placed[p.Order.ID]; ok {
			room[i] = true
		}
	}
	return room, err
}

// placement turns a request into what is stored. A key makes the order's ID from it, so that the same request becomes
// the same order.
func (a *API) placement(ctx context.Context, request PlaceOrder, path, key string) (postgres.Placement, error) {
	o, err := order.Place(a.currencies, order.Request(request), time.Now())
	if err != nil {
		return postgres.Placement{}, err
	}
	if key != "" {
		o.ID = contract.DerivedID(path, o.AccountID, key)
	} else if o.ID, err = uuid.NewV7(); err != nil {
		return postgres.Placement{}, fmt.Errorf("make an ID: %w", err)
	}
	currency, err := a.currency(o)
	if err != nil {
		return postgres.Placement{}, err
	}
	event, err := json.Marshal(o.Placed(currency))
	if err != nil {
		return postgres.Placement{}, fmt.Errorf("encode order %s: %w", o.ID, err)
	}
	return postgres.Placement{Order: o, Event: string(event), Traceparent: telemetry.Traceparent(ctx)}, nil
}

// commit stores orders and wakes who publishes them.
func (a *API) commit(ctx context.Context, placements []postgres.Placement) ([]postgres.Placed, error) {
	placed, err := a.store.Place(ctx, placements)
	if err != nil {
		return nil, err
	}
	a.wake()
	for _, p := range placed {
		if p.New {
			a.placed.Inc()
		}
	}
	return placed, nil
}
