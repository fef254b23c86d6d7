package api

import (
	"net/http"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

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
//	@Accept			json
//	@Produce		json,application/problem+json
//	@Param			Idempotency-Key	header		string		false	"makes the request repeatable, 1 to 255 characters"
//	@Param			orders			body		PlaceOrders	true	"the orders"
//	@Success		200				{object}	Results
//	@Header			200				{string}	Idempotent-Replayed	"true when the same batch came with this key before"
//	@Failure		400				{object}	httpserver.Problem	"invalid_json, unknown_field or validation_failed"
//	@Failure		408				{object}	httpserver.Problem	"request_timeout"
//	@Failure		413				{object}	httpserver.Problem	"body_too_large"
//	@Failure		415				{object}	httpserver.Problem	"unsupported_media_type"
//	@Failure		422				{object}	httpserver.Problem	"idempotency_key_reused"
//	@Failure		500				{object}	httpserver.Problem	"internal"
//	@Failure		503				{object}	httpserver.Problem	"unavailable or overloaded"
//	@Router			/api/v1/orders/batch [post]
func (a *API) placeBatch(w http.ResponseWriter, r *http.Request) error {
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	var request PlaceOrders
	if err := httpserver.DecodeJSON(w, r, &request); err != nil {
		return err
	}
	if n := len(request.Orders); n < 1 || n > maxBatch {
		return contract.Invalid("orders", "must have 1 to %d orders", maxBatch)
	}
	requests := make([]order.Request, len(request.Orders))
	for i, o := range request.Orders {
		requests[i] = order.Request(o)
	}
	placed, repeated, err := a.orders.PlaceAll(r.Context(), requests, key)
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
	if repeated {
		w.Header().Set(replayedHeader, "true")
	}
	return httpserver.WriteJSON(w, http.StatusOK, Results{results})
}
