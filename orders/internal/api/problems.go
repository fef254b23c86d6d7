package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/groupcommit"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// The codes of problems that orders has beside those of any HTTP call (see httpserver).
const (
	CodeOrderNotFound = "order_not_found" // 404: there is no order with this ID
	CodeOrderFailed   = "order_failed"    // 422: a failed order cannot be cancelled
)

var (
	errOrderNotFound = httpserver.NewProblem(http.StatusNotFound, CodeOrderNotFound, "there is no order with this ID")
	errOrderFailed   = httpserver.NewProblem(http.StatusUnprocessableEntity, CodeOrderFailed, "the order has failed; there is nothing to cancel")
	errKeyReused     = httpserver.NewProblem(http.StatusUnprocessableEntity, httpserver.CodeIdempotencyKeyReused,
		"this Idempotency-Key came with another request before")
)

// Classify is the one table from the errors of orders to problems. An error that it does not know is nil, which makes
// it a 500.
func Classify(err error) *httpserver.Problem {
	switch {
	case errors.Is(err, postgres.ErrNotFound):
		return errOrderNotFound
	case errors.Is(err, order.ErrFailed):
		return errOrderFailed
	case errors.Is(err, postgres.ErrKeyReused):
		return errKeyReused
	case pg.IsOutcomeUnknown(err):
		return httpserver.OutcomeUnknown("", err)
	case errors.Is(err, groupcommit.ErrBusy), errors.Is(err, outbox.ErrFull):
		return httpserver.Overloaded("there is no room for more at the moment; try again later").Because(err)
	case pg.IsTransient(err):
		return httpserver.Unavailable(err)
	}
	return nil
}

// outcomeOf is the error of a request about an order: where it may have taken effect, the problem that says so and names the
// order. Once ctx has ended nobody waits for the answer.
func outcomeOf(ctx context.Context, id uuid.UUID, err error) error {
	if !pg.IsOutcomeUnknown(err) || ctx.Err() != nil {
		return err
	}
	return outcomeUnknown(id, err)
}

func outcomeUnknown(id uuid.UUID, err error) *httpserver.Problem {
	p := httpserver.OutcomeUnknown(Path+"/"+id.String(), err)
	p.OrderID = id.String()
	return p
}
