package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/altyn-pay/altyn/payments/internal/command"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/payments/internal/wire"
	"github.com/altyn-pay/altyn/platform/groupcommit"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// The codes of the domain's problems that are not the reason of an operation. An operation that ended in error has its
// reason as the code; those are the ledger's list.
const (
	codeOperationNotFound = string(ledger.OperationNotFound)
	codePaymentNotFound   = string(ledger.PaymentNotFound)
)

// Classify is the one table from errors to problems.
func Classify(err error) *httpserver.Problem {
	switch {
	case errors.Is(err, command.ErrHoldNotFound):
		return httpserver.NewProblem(http.StatusNotFound, string(ledger.HoldNotFound), "there is no such hold")
	case errors.Is(err, command.ErrOperationNotFound):
		return httpserver.NewProblem(http.StatusNotFound, string(ledger.OperationNotFound), "there is no such operation")
	case errors.Is(err, errKeyReused), errors.Is(err, idempotency.ErrReused):
		return httpserver.NewProblem(http.StatusUnprocessableEntity, httpserver.CodeIdempotencyKeyReused,
			"this Idempotency-Key came with another request before")
	case pg.IsOutcomeUnknown(err):
		return httpserver.OutcomeUnknown("", err)
	case errors.Is(err, groupcommit.ErrBusy), errors.Is(err, outbox.ErrFull):
		return httpserver.Overloaded("there is no room for more at the moment; try again later").Because(err)
	case pg.IsTransient(err), errors.Is(err, context.DeadlineExceeded):
		return httpserver.Unavailable(err)
	}
	return nil
}

// problemOf is the problem of an item of a batch.
func problemOf(err error) *httpserver.Problem {
	if p := httpserver.AsProblem(err); p != nil {
		return p
	}
	return Classify(err)
}

// failure is the problem of an operation that ended in error.
func failure(op *ledger.Operation) *httpserver.Problem {
	p := httpserver.NewProblem(wire.Code(op), string(op.Reason), "the operation ended in error: "+strings.ReplaceAll(string(op.Reason), "_", " "))
	p.OperationID = op.ID.String()
	return p
}

// notFound is the 404 of what a code says is not there; other errors pass.
func notFound(err error, code string) error {
	if errors.Is(err, postgres.ErrNotFound) {
		what, _ := strings.CutSuffix(code, "_not_found")
		return httpserver.NewProblem(http.StatusNotFound, code, "there is no such "+what)
	}
	return err
}
