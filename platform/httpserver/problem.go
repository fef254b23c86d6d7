package httpserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/strictjson"
)

// The codes of problems that any HTTP call can meet. Together with the codes of its domain, which each service lists
// in one place, they are a closed list: clients may switch on them. Each comment begins with the status; make
// generate turns them into docs/errors.md and into the enum in the Swagger documents.
const (
	CodeInvalidJSON = "invalid_json" // 400: the body is no JSON object
	// 400: the body has a field that this call does not know; errors names it
	CodeUnknownField = "unknown_field"
	// 400: the query has a parameter that this call does not know; errors names it
	CodeUnknownParameter = "unknown_parameter"
	CodeValidationFailed = "validation_failed" // 400: errors names the fields and what is wrong with each
	CodeUnauthenticated  = "unauthenticated"   // 401: no token, or one that is not valid; WWW-Authenticate says why
	// 403: the token lacks the scope that detail and WWW-Authenticate name
	CodeInsufficientScope = "insufficient_scope"
	// 403: a page of another site asks; ALLOWED_ORIGINS names those that may
	CodeCrossOrigin          = "cross_origin"
	CodeNotFound             = "not_found"              // 404: nothing is served at this path
	CodeMethodNotAllowed     = "method_not_allowed"     // 405: the header Allow lists what is
	CodeNotAcceptable        = "not_acceptable"         // 406: Accept has none of the media types that there are
	CodeRequestTimeout       = "request_timeout"        // 408: the body did not arrive in time
	CodeBodyTooLarge         = "body_too_large"         // 413: the body is larger than 1 MiB
	CodeUnsupportedMediaType = "unsupported_media_type" // 415: the body must be application/json
	// 421: the Host is not one of this server; ALLOWED_HOSTS names further ones
	CodeMisdirectedRequest   = "misdirected_request"
	CodeIdempotencyKeyReused = "idempotency_key_reused" // 422: the same Idempotency-Key came with another request before
	// 429: the tenant, the subject or the address has asked for too much at a time; Retry-After says when to come again
	CodeRateLimited         = "rate_limited"
	CodeInternal            = "internal"             // 500: a fault of Altyn, logged under the request's ID
	CodeUpstreamUnavailable = "upstream_unavailable" // 502: a service behind the gateway broke off; it may have done it
	// 503: the database or a service is not there; nothing was done, repeat the request
	CodeUnavailable = "unavailable"
	// 503: it may have been done; Location and location say where that can be seen
	CodeOutcomeUnknown = "outcome_unknown"
	CodeOverloaded     = "overloaded" // 503: there is no room for the request now; nothing was done
	// 504: a service behind the gateway did not answer in time; it may still do it
	CodeUpstreamTimeout = "upstream_timeout"
)

// StatusClientClosedRequest is the status in the log and the metrics of a request whose client left before the answer.
const StatusClientClosedRequest = 499

// Problem is an error as a client sees it: application/problem+json (RFC 9457). A handler returns one to answer with
// it.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Code is one of a documented, closed list.
	Code   string                `json:"code"`
	Errors []contract.FieldError `json:"errors,omitempty"`
	// OperationID names the operation that was recorded with this outcome.
	OperationID string `json:"operation_id,omitempty"`
	// OrderID names the order whose outcome is unknown.
	OrderID string `json:"order_id,omitempty"`
	// Location is where an outcome that is unknown will be; it is the answer's header too.
	Location string `json:"location,omitempty"`

	cause     error
	challenge string // WWW-Authenticate
}

// NewProblem returns a problem whose title is the status's own.
func NewProblem(status int, code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// AsProblem returns the *Problem in err, or the one that it stands for: contract.FieldErrors or an error of strictjson,
// 400; identity.ErrUnauthenticated, 401; *identity.MissingScope, 403. It is nil for any other error. Handle does this
// by itself; only an answer that reports several errors needs it.
func AsProblem(err error) *Problem {
	var p *Problem
	var fields contract.FieldErrors
	var unknown *strictjson.UnknownFieldError
	var syntax *strictjson.SyntaxError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &fields):
		return invalid(fields...)
	case errors.As(err, &unknown):
		detail := "unknown field " + strconv.Quote(unknown.Field)
		if unknown.OtherVariant {
			detail += ": it " + unknown.Detail
		}
		p = NewProblem(http.StatusBadRequest, CodeUnknownField, detail)
		p.Errors = []contract.FieldError{unknown.FieldError}
		return p
	case errors.As(err, &syntax):
		return NewProblem(http.StatusBadRequest, CodeInvalidJSON, syntax.Error())
	}
	return notAllowed(err)
}

func invalid(fields ...contract.FieldError) *Problem {
	first := fields[0]
	p := NewProblem(http.StatusBadRequest, CodeValidationFailed, "the request is not valid: "+first.Field+" "+first.Detail)
	p.Errors = fields
	return p
}

// Unavailable is the 503 for a request that may succeed when it is repeated, such as when the database is away. It
// says that nothing was done.
func Unavailable(cause error) *Problem {
	return NewProblem(http.StatusServiceUnavailable, CodeUnavailable,
		"the service cannot do this at the moment; try again shortly").Because(cause)
}

// OutcomeUnknown is the 503 for a request that may or may not have been done: the database was lost before it could
// tell. location is where the outcome will be; "" when there is no such place.
func OutcomeUnknown(location string, cause error) *Problem {
	detail := "it is not known whether this was done"
	if location != "" {
		detail += "; look at " + location + " before you ask for it again"
	}
	p := NewProblem(http.StatusServiceUnavailable, CodeOutcomeUnknown, detail).Because(cause)
	p.Location = location
	return p
}

// Overloaded is the 503 for a request for which there is no room at the moment. Nothing was done.
func Overloaded(detail string) *Problem {
	return NewProblem(http.StatusServiceUnavailable, CodeOverloaded, detail)
}

// Because returns the problem with its cause, which is logged and never shown.
func (p *Problem) Because(cause error) *Problem {
	q := *p
	q.cause = cause
	return &q
}

func (p *Problem) Error() string {
	text := strconv.Itoa(p.Status) + " " + p.Code + ": " + p.Detail
	if p.cause != nil {
		text += ": " + p.cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.cause }

// WriteProblem answers with the problem.
func WriteProblem(w http.ResponseWriter, p *Problem) {
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // A struct of strings can always be encoded.
	}
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	p.setHeaders(header)
	switch {
	case p.Code == CodeOutcomeUnknown:
		if p.Location != "" {
			header.Set("Location", p.Location)
		}
	case p.Status == http.StatusServiceUnavailable:
		header.Set("Retry-After", "1") // Clients repeat such a request by themselves, so only when nothing was done.
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // A client that is gone misses nothing.
}
