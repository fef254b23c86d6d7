package billing

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/groupcommit"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// operationPath is where operations are, by their IDs.
const operationPath = "/api/v1/operations/"

// Refusal is the error of a request that was understood and not done.
type Refusal struct {
	Reason    ledger.Reason
	Operation uuid.UUID // the operation that ended with the reason; uuid.Nil where none was recorded
}

func (r *Refusal) Error() string {
	if r.Operation != uuid.Nil {
		return "the operation ended in error: " + strings.ReplaceAll(string(r.Reason), "_", " ")
	}
	what, _ := strings.CutSuffix(string(r.Reason), "_not_found")
	return "there is no such " + what
}

// unknownOutcome is the error of a request that may have taken effect: its cause keeps Altyn from knowing.
type unknownOutcome struct {
	operation uuid.UUID
	cause     error
}

func (u *unknownOutcome) Error() string { return "outcome unknown: " + u.cause.Error() }
func (u *unknownOutcome) Unwrap() error { return u.cause }

// errNothingDone marks an error after which surely nothing was done, though the outcome of a commit is unknown.
var errNothingDone = errors.New("nothing was done")

// Problem is the one table from errors to what clients are told, over HTTP, over gRPC and in replies. It returns nil
// for a fault of Altyn's own.
func Problem(err error) *httpserver.Problem {
	var (
		refusal *Refusal
		unknown *unknownOutcome
	)
	switch known := httpserver.AsProblem(err); {
	case known != nil:
		return known
	case errors.As(err, &refusal):
		p := httpserver.NewProblem(Status(refusal.Reason), string(refusal.Reason), refusal.Error())
		if refusal.Operation != uuid.Nil {
			p.OperationID = refusal.Operation.String()
		}
		return p
	case errors.Is(err, idempotency.ErrReused):
		return httpserver.NewProblem(http.StatusUnprocessableEntity, httpserver.CodeIdempotencyKeyReused,
			"this Idempotency-Key came with another request before")
	case errors.Is(err, errNothingDone):
		return httpserver.Unavailable(err)
	case errors.As(err, &unknown):
		p := httpserver.OutcomeUnknown(operationPath+unknown.operation.String(), unknown.cause)
		p.OperationID = unknown.operation.String()
		return p
	case pg.IsOutcomeUnknown(err):
		return httpserver.OutcomeUnknown("", err)
	case errors.Is(err, groupcommit.ErrBusy), errors.Is(err, outbox.ErrFull):
		return httpserver.Overloaded("there is no room for more at the moment; try again later").Because(err)
	case pg.IsTransient(err), errors.Is(err, context.DeadlineExceeded):
		return httpserver.Unavailable(err)
	}
	return nil
}

// Status is the HTTP status of a reason for which a request is not done. It is the code of a reply, too.
func Status(reason ledger.Reason) int {
	switch reason {
	case ledger.AccountNotFound, ledger.HoldNotFound, ledger.OperationNotFound, ledger.PaymentNotFound:
		return http.StatusNotFound
	}
	return http.StatusUnprocessableEntity
}

// Code is the HTTP status of an operation's outcome. It is the code of a reply, too.
func Code(op *ledger.Operation) int {
	switch {
	case op.Status == ledger.Error:
		return Status(op.Reason)
	case op.Status == ledger.Created:
		return http.StatusAccepted
	case op.Kind == ledger.KindCancelOperation:
		return http.StatusOK // nothing is new
	}
	return http.StatusCreated
}

// Refuse says why a command cannot be done.
func (r *ReplyTo) Refuse(err error) {
	p := Problem(err)
	if p == nil {
		p = httpserver.NewProblem(http.StatusBadRequest, httpserver.CodeValidationFailed, err.Error())
	}
	r.Code, r.Reason, r.Detail = p.Status, p.Code, p.Detail
	var fields contract.FieldErrors
	switch {
	case errors.As(err, &fields):
		r.Detail = fields.Error()
	case errors.Is(err, idempotency.ErrReused):
		r.Detail = "" // it is the command's ID, not a header
	}
	r.Detail = r.Detail[:min(len(r.Detail), maxDetail)]
}

// GRPC is the gRPC code of a problem.
func GRPC(p *httpserver.Problem) codes.Code {
	if p.Code == httpserver.CodeOutcomeUnknown {
		return codes.Unknown // many clients repeat by themselves what is unavailable
	}
	switch p.Status {
	case http.StatusBadRequest:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden, http.StatusMisdirectedRequest:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return codes.DeadlineExceeded
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusConflict, http.StatusUnprocessableEntity:
		return codes.FailedPrecondition
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	}
	return codes.Internal
}

// outcomeUnknown wraps an error that leaves the outcome of a request unknown. Once ctx has ended nobody waits for the
// answer, and the error stays as it is.
func outcomeUnknown(ctx context.Context, operation uuid.UUID, err error) error {
	if ctx.Err() != nil || errors.As(err, new(*Refusal)) || errors.As(err, new(*unknownOutcome)) {
		return err
	}
	return &unknownOutcome{operation, err}
}

// NotFound makes a *Refusal of postgres.ErrNotFound; other errors pass.
func NotFound(err error, reason ledger.Reason) error {
	if errors.Is(err, postgres.ErrNotFound) {
		return &Refusal{Reason: reason}
	}
	return err
}
