package api

import (
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/placing"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/groupcommit"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// The codes of problems that only orders has; httpserver has those of any HTTP call.
const (
	CodeOrderNotFound = "order_not_found" // 404: there is no order with this ID
	CodeOrderFailed   = "order_failed"    // 422: a failed order cannot be cancelled
)

var (
	errOrderNotFound = httpserver.NewProblem(http.StatusNotFound, CodeOrderNotFound, "there is no order with this ID")
	errOrderFailed   = httpserver.NewProblem(http.StatusUnprocessableEntity, CodeOrderFailed,
		"the order has failed; there is nothing to cancel")
	errKeyReused = httpserver.NewProblem(http.StatusUnprocessableEntity, httpserver.CodeIdempotencyKeyReused,
		"this Idempotency-Key came with another request before")
)

// Classify is the one table from the errors of orders to problems. It returns nil for an error that it does not know,
// which becomes a 500.
func Classify(err error) *httpserver.Problem {
	var unknown *placing.OutcomeUnknownError
	switch {
	case errors.As(err, &unknown):
		p := httpserver.OutcomeUnknown(locationOf(unknown.OrderID), err)
		p.OrderID = unknown.OrderID.String()
		return p
	case errors.Is(err, postgres.ErrNotFound):
		return errOrderNotFound
	case errors.Is(err, order.ErrFailed):
		return errOrderFailed
	case errors.Is(err, idempotency.ErrReused):
		return errKeyReused
	case pg.IsOutcomeUnknown(err):
		return httpserver.OutcomeUnknown("", err)
	case errors.Is(err, groupcommit.ErrBusy), errors.Is(err, outbox.ErrFull):
		return httpserver.Overloaded("there is no room for more at the moment; try again later").Because(err)
	case errors.Is(err, placing.ErrUnavailable), pg.IsTransient(err):
		return httpserver.Unavailable(err)
	}
	return nil
}

// problemOf is the problem of one order of a batch.
func problemOf(err error) *httpserver.Problem {
	if p := httpserver.AsProblem(err); p != nil {
		return p
	}
	return Classify(err)
}

func locationOf(id uuid.UUID) string { return Path + "/" + id.String() }
